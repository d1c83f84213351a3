"""The subject access report as a page to print, to send and to read aloud: one file, no script, nothing from elsewhere.

Pure. The template is part of the package; every value is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jinja2

from audit.exports.background import Background, Record
from audit.exports.report import access_report

CHUNK_CHARACTERS = 1 << 16


def report_html(subject: str | None, events: Sequence[Record], background: Background) -> Iterator[bytes]:
    """The report as HTML in UTF-8. events: each once, by time."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("audit.exports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = day
    environment.filters["moment"] = moment
    environment.filters["count"] = count
    environment.filters["states"] = states
    waiting: list[str] = []
    size = 0
    for text in environment.get_template("report.html").generate(report=access_report(subject, events, background)):
        waiting.append(text)
        size += len(text)
        if size >= CHUNK_CHARACTERS:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()


def day(text: str | None) -> str:
    """`2026-03-01` of a time."""
    return "–" if text is None else text[:10]


def moment(text: str | None) -> str:
    """`2026-03-01 08:00:00` of a time."""
    return "–" if text is None else f"{text[:10]} {text[11:19]}"


def count(number: int, one: str, many: str = "") -> str:
    """`1 event`, `2,000 events`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


_STATES = {
    "received": "received; we are verifying that it is you",
    "verified": "being prepared",
    "enumerating": "being prepared: we find everyone who was given your data",
    "dispatching": "the recipients are being asked",
    "awaiting": "we wait for the recipients",
    "purging": "our own records are being deleted",
    "completed": "completed",
    "partially_completed": "completed in part: not every recipient deleted your data",
    "refused": "refused",
    "cancelled": "cancelled",
    "joined": "answered together with another request of yours",
    "waiting": "not asked yet",
    "dispatched": "asked; no answer yet",
    "acknowledged": "has the request",
    "failed": "could not be reached, or failed",
    "unsupported": "cannot be asked",
    "exempt": "may keep the data",
}


def states(state: Any) -> str:
    """A state of an erasure request, or of one recipient in it, in words."""
    return _STATES.get(state, str(state).replace("_", " "))
