"""What is asked about one person. Every answer has been recorded as a look before; user ids end here as aliases."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from audit.accounting import accounting
from audit.api.access import Calling
from audit.api.answers import HEADERS, answer, lines, wants_lines
from audit.api.cursors import Paging, text, whole
from audit.api.errors import ApiError
from audit.api.parameters import (
    USUAL,
    AccountingBody,
    ChosenBody,
    CursorQuery,
    ExportBody,
    LimitQuery,
    LineageBody,
    Moment,
    ReportBody,
    UserId,
    ms,
)
from audit.api.routes import serve
from audit.api.services import Published, Services
from audit.exports.background import Background
from audit.exports.export import FORMATS, export_lineage
from audit.exports.gathering import background_of
from audit.exports.report import access_report
from audit.exports.under_policy import under_policy
from audit.subject import subject_lineage

Lineage = dict[str, Any]


def subjects_router(services: Services) -> APIRouter:
    """Lineage, accounting of disclosures, access report and exports of a person."""
    router = APIRouter(tags=["a person"])
    people = _People(services)

    def lineage(caller: Calling, request: Request, body: LineageBody) -> Response:
        """Every event of a person by time: what, why, who received it, on which basis, and whether it was lawful.

        `subject` is null when the person is not known, or erased.
        """
        reason = caller.reason(body.reason)
        alias = people.alias(body.user)
        # Of the alias: a cursor must not let anybody try user ids against it.
        paging = Paging(["lineage", alias.hex(), body.as_of, body.policy_version, body.all_revisions])
        after = paging.after(body.cursor, text, text, whole)
        found = people.lineage(body, alias)
        caller.looks_at(_subject(found), reason)
        left = _behind(found["events"], after)
        if wants_lines(request):
            return lines(left)
        page = left[: body.limit]
        more = paging.cursor(*_key(page[-1])) if len(left) > len(page) else None
        return answer({"subject": found["subject"], "events": page, "next": more})

    def lineage_by_query(
        caller: Calling,
        request: Request,
        user: Annotated[UserId, Query()],
        as_of: Annotated[Moment | None, Query()] = None,
        policy_version: Annotated[int | None, Query(ge=0, lt=1 << 63)] = None,
        all_revisions: Annotated[bool, Query()] = False,
        cursor: CursorQuery = None,
        limit: LimitQuery = USUAL,
    ) -> Response:
        """As POST does. A URL may end in the logs of what stands before this API: prefer POST."""
        body = LineageBody.model_construct(
            user=user,
            reason=None,
            as_of=as_of,
            policy_version=policy_version,
            all_revisions=all_revisions,
            cursor=cursor,
            limit=limit,
        )
        return lineage(caller, request, body)

    def account(caller: Calling, request: Request, body: AccountingBody) -> Response:
        """The accounting of disclosures: date, nature and purpose of each, and name and contact of who received it."""
        reason = caller.reason(body.reason)
        alias = people.alias(body.user)
        paging = Paging(["accounting", alias.hex(), body.since, body.until])
        after = paging.after(body.cursor, text, text)
        found = people.lineage(body, alias)
        caller.looks_at(_subject(found), reason)
        entries = accounting(found, people.background(found, alias), ms(body.since), ms(body.until))
        left = [x for x in entries if after is None or (x["date"], x["event_id"]) > after]
        if wants_lines(request):
            return lines(left)
        page = left[: body.limit]
        more = paging.cursor(page[-1]["date"], page[-1]["event_id"]) if len(left) > len(page) else None
        return answer({"subject": found["subject"], "disclosures": page, "next": more})

    def report(caller: Calling, body: ReportBody) -> Response:
        """What is held about a person, why, on which basis, who got it, and what they can do: the report they may ask
        for."""
        reason = caller.reason(body.reason)
        alias = people.alias(body.user)
        found = people.lineage(body, alias)
        caller.looks_at(_subject(found), reason)
        background = people.background(found, alias, ms(body.as_of))
        return answer(access_report(found["subject"], found["events"], background))

    def export(caller: Calling, body: ExportBody) -> Response:
        """The lineage as a file: csv, parquet, prov-json, dpv-jsonld, iso27560, report-html or report-json."""
        reason = caller.reason(body.reason)
        if body.format not in FORMATS:
            raise ApiError("invalid_request", f"body.format: one of {', '.join(FORMATS)}")
        alias = people.alias(body.user)
        found = people.lineage(body, alias)
        caller.looks_at(_subject(found), reason)
        made = export_lineage(found, body.format, people.background(found, alias, ms(body.as_of)))
        named = {"Content-Disposition": f'attachment; filename="{made.file_name}"'}
        return StreamingResponse(made.content, media_type=made.media_type, headers={**HEADERS, **named})

    serve(router, "lineage", lineage, lines=True)
    serve(router, "lineage_by_query", lineage_by_query, lines=True)
    serve(router, "accounting", account, lines=True)
    serve(router, "access_report", report)
    media_types = sorted({form.media_type.split(";")[0] for form in FORMATS.values()})
    serve(router, "export", export, media_types=media_types)
    return router


class _People:
    """Lineages with all that is known of them."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def alias(self, user: str) -> bytes:
        try:
            return self._services.alias_of(user)
        except UnicodeEncodeError:
            raise ApiError("invalid_request", "body.user: must be valid Unicode text") from None

    def lineage(self, body: ChosenBody | AccountingBody | ReportBody, alias: bytes) -> Lineage:
        as_of = getattr(body, "as_of", None)
        version, every = getattr(body, "policy_version", None), getattr(body, "all_revisions", False)
        if version is not None and every:
            raise ApiError("invalid_request", "all_revisions are as stored: ask for them without policy_version")
        known = self._known()
        if version is not None and version not in known.knowledge.policies:
            versions = ", ".join(map(str, sorted(known.knowledge.policies))) or "none"
            raise ApiError("not_found", f"this policy version was never published; published: {versions}")
        with self._services.clickhouse.client() as client:
            found = subject_lineage(client, alias, as_of, every, known.knowledge)
        return found if version is None else under_policy(found, known.knowledge, version)

    def background(self, lineage: Lineage, alias: bytes, as_of: int | None = None) -> Background:
        known, now = self._known(), round(self._services.clock() * 1000)
        operator = self._services.operator()
        with self._services.clickhouse.client() as client:
            return background_of(client, alias, lineage, known.policies, known.recipients, operator, now, as_of)

    def _known(self) -> Published:
        return self._services.published()


def _subject(lineage: Lineage) -> UUID | None:
    return None if lineage["subject"] is None else UUID(lineage["subject"])


def _behind(events: list[dict[str, Any]], after: tuple[Any, ...] | None) -> list[dict[str, Any]]:
    return sorted((event for event in events if after is None or _key(event) > after), key=_key)


def _key(event: dict[str, Any]) -> tuple[str, str, int]:
    return event["occurred_at"], event["event_id"], event["revision"]
