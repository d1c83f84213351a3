"""What is asked about one person. Every answer has been recorded as a look before; user ids end here as aliases."""

from collections.abc import Mapping
from typing import Annotated, Any

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
    CursorQuery,
    ExportBody,
    LimitQuery,
    LineageBody,
    Moment,
    ReportBody,
    UserId,
    Version,
    ms,
)
from audit.api.people import People
from audit.api.routes import serve
from audit.api.services import Services
from audit.exports.export import FORMATS, Export, export_lineage
from audit.exports.report import access_report


def subjects_router(services: Services) -> APIRouter:
    """Lineage, accounting of disclosures, access report and exports of a person."""
    router = APIRouter(tags=["a person"])
    people = People(services)

    def lineage(caller: Calling, request: Request, body: LineageBody) -> Response:
        """Every event of a person by time: what, why, who received it, on which basis, and whether it was lawful.

        `subject` is null when the person is not known, or erased.
        """
        reason = caller.reason(body.reason)
        alias = people.alias(body.user)
        # Of the alias: a cursor must not let anybody try user ids against it.
        paging = Paging(["lineage", alias.hex(), body.as_of, body.policy_version, body.all_revisions])
        after = paging.after(body.cursor, text, text, whole)
        found = people.lineage(alias, caller.look(reason), body.as_of, body.policy_version, body.all_revisions)
        left = _behind(found["events"], after)
        if wants_lines(request):
            return _of_subject(lines(left), found)
        page = left[: body.limit]
        more = paging.cursor(*_key(page[-1])) if len(left) > len(page) else None
        return answer({"subject": found["subject"], "events": page, "next": more})

    def lineage_by_query(
        caller: Calling,
        request: Request,
        user: Annotated[UserId, Query()],
        as_of: Annotated[Moment | None, Query()] = None,
        policy_version: Annotated[Version | None, Query()] = None,
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
        found = people.lineage(alias, caller.look(reason))
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
        found = people.lineage(alias, caller.look(reason), body.as_of)
        background = people.background(found, alias, ms(body.as_of))
        return answer(access_report(found["subject"], found["events"], background))

    def export(caller: Calling, body: ExportBody) -> Response:
        """The lineage as a file: csv, parquet, prov-json, dpv-jsonld, iso27560, report-html or report-json."""
        reason = caller.reason(body.reason)
        if body.format not in FORMATS:
            raise ApiError("invalid_request", f"body.format: one of {', '.join(FORMATS)}")
        alias = people.alias(body.user)
        found = people.lineage(alias, caller.look(reason), body.as_of, body.policy_version, body.all_revisions)
        made = export_lineage(found, body.format, people.background(found, alias, ms(body.as_of)))
        return _of_subject(download(made), found)

    serve(router, "lineage", lineage, lines=True)
    serve(router, "lineage_by_query", lineage_by_query, lines=True)
    serve(router, "accounting", account, lines=True)
    serve(router, "access_report", report)
    media_types = sorted({form.media_type.split(";")[0] for form in FORMATS.values()})
    serve(router, "export", export, media_types=media_types)
    return router


def download(made: Export) -> Response:
    """An export as a file, sent while it is written."""
    named = {"Content-Disposition": f'attachment; filename="{made.file_name}"'}
    return StreamingResponse(made.content, media_type=made.media_type, headers={**HEADERS, **named})


def _of_subject(response: Response, lineage: Mapping[str, Any]) -> Response:
    """What is no JSON document tells in its headers whose it is, if there is somebody, and of how many events."""
    if lineage["subject"] is not None:
        response.headers["X-Subject"] = lineage["subject"]
    response.headers["X-Events"] = str(len(lineage["events"]))
    return response


def _behind(events: list[dict[str, Any]], after: tuple[Any, ...] | None) -> list[dict[str, Any]]:
    return sorted((event for event in events if after is None or _key(event) > after), key=_key)


def _key(event: dict[str, Any]) -> tuple[str, str, int]:
    return event["occurred_at"], event["event_id"], event["revision"]
