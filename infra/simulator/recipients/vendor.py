"""Simulated vendors with a plain HTTP API of their own: POST a deletion, get a job, ask how the job stands.

It stands for the many APIs that follow no standard.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from infra.simulator.recipients.recipient import REFUSAL
from infra.simulator.recipients.register import Entry
from infra.simulator.recipients.site import Site, hang_up, reply
from processors.erasure_commands import Identity

PATH = "/r/{recipient}/http/v1/deletions"
# Where the API has words of its own.
STATUSES = {"pending": "queued", "in_progress": "running", "completed": "done", "exempt": "retained"}


class Vendors:
    """The routes of every HTTP recipient of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post(PATH, self._delete)
        app.router.add_get(PATH + "/{job}", self._job)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        recipient = self._site.find(request, "http")
        identities = _identities(await request.read())
        key = request.headers.get("Idempotency-Key", "")
        if not identities or not key:
            recipient.note("bad_request")
            about: tuple[object, ...] = ("bad", recipient.turn("bad", ""))
            return await reply(request, recipient, about, 400, {"error": "identities and Idempotency-Key are needed"})
        asked = recipient.ask(key, identities, context={"job": f"{recipient.lives(key)}-{key}"})
        if asked.drop:
            return hang_up(request)
        about = ("request", key, asked.turn)
        if asked.outcome == "refused":
            return await reply(request, recipient, about, 422, {"error": REFUSAL})
        if asked.outcome == "unsupported":
            return await reply(request, recipient, about, 422, {"error": "none of these identities is known here"})
        if not asked.taken:
            return self._site.failed(recipient, asked.outcome)
        return await reply(request, recipient, about, 202, _told(asked.entry))

    async def _job(self, request: web.Request) -> web.StreamResponse:
        recipient = self._site.find(request, "http")
        job = request.match_info["job"]
        about = ("job", job, recipient.turn("job", job))
        error = recipient.error(*about)
        if error:
            return self._site.failed(recipient, error)
        entry = recipient.state_of(job.partition("-")[2])
        # Taken anew, as after it was forgotten, it is another job.
        if entry is None or entry.context["job"] != job:
            return await reply(request, recipient, about, 404, {"error": "no such job"})
        return await reply(request, recipient, about, 200, _told(entry))


def _told(entry: Entry) -> dict[str, Any]:
    answer = {"job_id": entry.context["job"], "status": STATUSES.get(entry.state, entry.state)}
    return answer | {"reason": entry.ground} if entry.ground else answer


def _identities(raw: bytes) -> list[Identity] | None:
    """What the body names; None where it does not have the form."""
    try:
        found = orjson.loads(raw)["identities"]
        if all(isinstance(i[k], str) for i in found for k in ("identity_type", "identity_format", "identity_value")):
            return list(found)
    except (ValueError, KeyError, TypeError):
        pass
    return None
