"""Looks over HTTP: who looked at people, when and why. Clients see their own, overseers see all."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from audit.api.access import Calling
from audit.api.answers import answer, entries_of, lines, wants_lines
from audit.api.cursors import Paging, uuid, whole
from audit.api.parameters import USUAL, CursorQuery, From, LimitQuery, Name, To, ms
from audit.api.routes import serve
from audit.api.services import Services
from audit.exports.background import iso
from processors.api_clients import Forbidden
from sinks.clickhouse.looks import Look, LookFilter, looks_page

_CHUNK = 10_000


def looks_router(services: Services) -> APIRouter:
    """The record of looks."""
    router = APIRouter(tags=["looks"])

    def looks(
        caller: Calling,
        request: Request,
        client: Annotated[Name | None, Query(description="Who looked.")] = None,
        operation: Annotated[Name | None, Query(description="e.g. lineage or incident.")] = None,
        subject: Annotated[UUID | None, Query(description="At whom: the subject, which is no user id.")] = None,
        since: From = None,
        until: To = None,
        cursor: CursorQuery = None,
        limit: LimitQuery = USUAL,
    ) -> Response:
        """The newest first. Of a person who has been erased since, that there was a look stays, and at whom and why is
        gone."""
        if caller.scope == "own":
            if client not in (None, caller.name):
                raise Forbidden("the looks of others are shown to the role overseer")
            client = caller.name
        wanted = LookFilter(client, operation, subject, ms(since), ms(until))
        paging = Paging(["looks", *vars(wanted).values()])
        key = paging.after(cursor, whole, uuid)

        def page(after: tuple[int, UUID] | None, most: int) -> tuple[list[dict[str, Any]], tuple[int, UUID] | None]:
            with services.clickhouse.client() as connection:
                found = looks_page(connection, wanted, after, most + 1)
            last = found[most - 1] if len(found) > most else None
            return [_shown(look) for look in found[:most]], None if last is None else (last.at, last.look_id)

        start = None if key is None else (key[0], key[1])
        if wants_lines(request):
            return lines(entries_of(lambda after: page(after, _CHUNK), start))
        found, more = page(start, limit)
        return answer({"looks": found, "next": None if more is None else paging.cursor(*more)})

    serve(router, "looks", looks, lines=True)
    return router


def _shown(look: Look) -> dict[str, Any]:
    return {
        "look_id": str(look.look_id),
        "at": iso(look.at),
        "client": look.client,
        "role": look.role,
        "operation": look.operation,
        "people": look.people,
        "subject": None if look.subject is None else str(look.subject),
        "reason": look.reason or None,
        "subject_matter": look.subject_matter or None,
    }
