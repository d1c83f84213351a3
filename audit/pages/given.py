"""The values of the pages' forms with method GET: a field left empty is one that was not given. Bounds as the API's."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BeforeValidator, Field

from audit.api.errors import ApiError
from audit.api.parameters import Activity, Day, Name, Verdict

_FIRST_YEAR, _LAST_YEAR = 1970, 2148


def _blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


_Blank = BeforeValidator(_blank)
NameField = Annotated[Name | None, _Blank, Query()]
VerdictField = Annotated[Verdict | None, _Blank, Query()]
ActivityField = Annotated[Activity | None, _Blank, Query()]
WidthField = Annotated[Literal["day", "week", "month"] | None, _Blank, Query()]
FromField = Annotated[Day | None, _Blank, Query(alias="from")]
ToField = Annotated[Day | None, _Blank, Query(alias="to")]
CursorField = Annotated[Annotated[str, Field(max_length=512)] | None, _Blank, Query()]
PageField = Annotated[int, Query(ge=1, le=1_000_000)]


def days_of(since: date | None, until: date | None) -> Mapping[str, str | None]:
    """A range as forms and URLs have it: `from`, and `to`, the day after the last one. Raises `ApiError`."""
    if since is not None and until is not None and since >= until:
        raise ApiError("invalid_request", "the range is empty: its first day must lie before the day at which it ends")
    return {"from": None if since is None else since.isoformat(), "to": None if until is None else until.isoformat()}


def moment_of(text: str, what: str) -> datetime:
    """A time of a form, in UTC unless it says otherwise. what: its name in the error. Raises `ApiError`."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ApiError("invalid_request", f"give {what} as a day and a time in UTC, e.g. 2026-03-01T08:00") from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    if not _FIRST_YEAR < found.year < _LAST_YEAR:
        raise ApiError("invalid_request", f"{what} must lie between {_FIRST_YEAR + 1} and {_LAST_YEAR - 1}")
    return found.astimezone(UTC)
