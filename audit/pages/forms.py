"""What is sent by the forms of the pages. Bounded by the server's limit on bodies."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from audit.api.errors import ApiError

_MOST_FIELDS = 50


async def _form(request: Request) -> Mapping[str, str]:
    try:
        body = (await request.body()).decode("utf-8")
        return dict(parse_qsl(body, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise ApiError("invalid_request", "the form cannot be read: go back, and send it again") from None


# The fields of a form, by name; of several with one name the last.
Form = Annotated[Mapping[str, str], Depends(_form)]
