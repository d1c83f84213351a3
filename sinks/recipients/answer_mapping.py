"""What a vendor's answer means, by its document: the first entry that fits. Pure; quotes no content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from processors.erasure_commands import Answer, Grade
from sinks.recipients.transport import Reply

_GRADES = {"completed": Grade.claimed, "acknowledged": Grade.acknowledged, "dispatched": Grade.dispatched}
# Mended on one side or the other; until then it is asked again.
_RETRIED = frozenset({401, 403, 404, 408, 409, 425})


def answer_to(reply: Reply, body: Any, entries: Sequence[Mapping[str, Any]], detail: str = "") -> Answer:
    """`entries`: `answers` of a document; `body`: of the reply, as JSON, None where it is none."""
    evidence = hashlib.sha256(reply.body).hexdigest() if reply.body else ""
    for entry in entries:
        if _fits(entry, reply.status, body):
            outcome = entry["outcome"]
            # An id is no word for anything else: numbers and texts without blanks.
            reference = str(at_path(body, entry["reference"]) or "").replace(" ", "") if "reference" in entry else ""
            return Answer(
                outcome,
                _GRADES.get(outcome, Grade.none),
                detail=detail or entry.get("detail", f"HTTP {reply.status}"),
                ground=entry.get("ground", ""),
                reference=reference,
                evidence=evidence,
                check_after=entry.get("check_after"),
            )
    if 400 <= reply.status < 500 and reply.status not in _RETRIED:
        return Answer("failed", detail=f"refused: HTTP {reply.status}", evidence=evidence)
    return Answer("retry", detail=f"HTTP {reply.status}, of which the document says nothing", evidence=evidence)


def _fits(entry: Mapping[str, Any], status: int, body: Any) -> bool:
    wanted = entry["status"]
    statuses = wanted if isinstance(wanted, list) else [wanted]
    if not any(one == status or (isinstance(one, str) and one == f"{status // 100}xx") for one in statuses):
        return False
    for path, value in entry.get("where", {}).items():
        found = at_path(body, path)
        if found not in (value if isinstance(value, list) else [value]):
            return False
    return True


def at_path(body: Any, path: str) -> Any:
    """The value at a dotted path (`data.0.id`; empty: the whole), None where there is none."""
    for step in filter(None, path.split(".")):
        if isinstance(body, Mapping):
            body = body.get(step)
        elif isinstance(body, list) and step.isdecimal() and int(step) < len(body):
            body = body[int(step)]
        else:
            return None
    return body
