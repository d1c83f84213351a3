"""Who looked at people, when and why: their own looks to those who look, all of them to overseers."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BeforeValidator
from starlette.responses import Response

from audit.api.cursors import Paging, uuid, whole
from audit.api.permissions import OPERATIONS
from audit.exports.background import iso
from audit.pages.given import CursorField, FromField, NameField, ToField, days_of
from audit.pages.rendering import query
from audit.pages.visits import Desk, Visiting, serve_page
from processors.api_clients import Forbidden
from sinks.clickhouse.looks import Look, LookFilter, looks_page

PATH = "/looks"
_ON_A_PAGE = 100
_SubjectField = Annotated[UUID | None, BeforeValidator(lambda value: value or None), Query()]


def looks_router(desk: Desk) -> APIRouter:
    """/looks."""
    router = APIRouter()

    def looks(
        visit: Visiting,
        client: NameField = None,
        operation: NameField = None,
        subject: _SubjectField = None,
        since: FromField = None,
        until: ToField = None,
        cursor: CursorField = None,
    ) -> Response:
        days = days_of(since, until)
        sees_all = visit.caller.scope == "all"
        if not sees_all and client not in (None, visit.caller.name):
            raise Forbidden("the looks of others are shown to the role overseer")
        wanted = LookFilter(client if sees_all else visit.caller.name, operation, subject, _ms(since), _ms(until))
        paging = Paging(["looks", *vars(wanted).values()])
        key = paging.after(cursor, whole, uuid)
        with desk.services.clickhouse.client() as connection:
            found = looks_page(connection, wanted, None if key is None else (key[0], key[1]), _ON_A_PAGE + 1)
        more = None
        if len(found) > _ON_A_PAGE:
            last = found[_ON_A_PAGE - 1]
            more = paging.cursor(last.at, last.look_id)
        given = {"client": client, "operation": operation, "subject": subject, **days}
        return desk.page(
            visit,
            "looks.html",
            "Looks at people" if sees_all else "Your looks at people",
            looks=[_shown(look) for look in found[:_ON_A_PAGE]],
            sees_all=sees_all,
            given=given,
            operations={name: one.what for name, one in OPERATIONS.items() if one.is_look},
            first=f"{PATH}{query(given)}" if cursor else None,
            next=f"{PATH}{query(given, cursor=more)}" if more else None,
        )

    serve_page(router, PATH, "looks", looks)
    return router


def _ms(day: date | None) -> int | None:
    return None if day is None else int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _shown(look: Look) -> dict[str, Any]:
    return {**vars(look), "at": iso(look.at), "subject": None if look.subject is None else str(look.subject)}
