"""What a person does about the recipients of an erasure request, over the API and on the pages: the request as it
stands, the act, and telling the controller. Who may is asked before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from audit.api.errors import ApiError
from audit.api.services import Services
from processors.erasure_acts import ActRefused, Document, Told, UnknownRecipient
from sinks.clickhouse.erasures import erasure_request

UNKNOWN = "no such erasure request is known here; a new one takes some seconds"


def stored_request(services: Services, request_id: UUID) -> dict[str, Any]:
    """A request as the projection has it. Raises `ApiError`, ClickHouseError."""
    with services.clickhouse.client() as client:
        found = erasure_request(client, request_id)
    if found is None:
        raise ApiError("not_found", UNKNOWN)
    return found


def act(services: Services, request_id: UUID, decide: Callable[[Document], list[Told]]) -> dict[str, Any]:
    """Does it to the request, or to the one that it has joined: the `request_id` of that one, and the `recipients` that
    it is about. The controller takes it within a second or so.

    decide: an act of processors/erasure_acts.py. Raises `ApiError` (not_found, conflict), `Unavailable`,
    ClickHouseError.
    """
    document = stored_request(services, request_id)
    if document["joined"]:
        document = stored_request(services, UUID(document["joined"]))
    try:
        told = decide(document)
    except UnknownRecipient as unknown:
        raise ApiError("not_found", str(unknown)) from None
    except ActRefused as refused:
        raise ApiError("conflict", str(refused)) from None
    answering = UUID(document["request_id"])
    services.tell(answering, told)
    return {"request_id": str(answering), "recipients": [one.target for one in told]}
