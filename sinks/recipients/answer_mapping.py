"""What a vendor's answer means, by its document: the first entry that fits. Pure; quotes no content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from processors.erasure_commands import Answer, Grade
from sinks.recipients.document_templates import TemplateError, every, render, render_texts
from sinks.recipients.transport import Reply, retry_after

_GRADES = {"completed": Grade.claimed, "acknowledged": Grade.acknowledged}
# Mended on one side or the other; until then it is asked again.
_RETRIED = frozenset({401, 403, 404, 408, 409, 425})
NOT_KNOWN = "not known there"
SOONEST_CHECK, LATEST_CHECK = 1.0, 86_400.0
# Of the answers to the requests of one command the worst one counts: what failed is never hidden by what is done.
_WORST_FIRST = ("retry", "failed", "exempt", "unsupported", "dispatched", "acknowledged", "completed")
_LONGEST_REFERENCE = 500
_LONGEST_GROUND = 200


def entry_for(reply: Reply, body: Any, entries: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> Any:
    """The first entry of `answers` that fits, None when none does. `body`: the reply's JSON, None where it is none."""
    return next((entry for entry in entries if _fits(entry, reply.status, body, values)), None)


def answer_to(
    reply: Reply,
    body: Any,
    entries: Sequence[Mapping[str, Any]],
    values: Mapping[str, Any],
    now: float,
    inquiry: bool = False,
) -> Answer:
    """What a reply means. Without an entry, a refusal (4xx) is for good, but for those that are mended elsewhere; all
    else is tried again. `now`: seconds since 1970, UTC; `inquiry`: it was asked how it stands, and a refusal of that
    says nothing of the deletion."""
    evidence = hashlib.sha256(reply.body).hexdigest()
    wait = retry_after(reply.headers, now)
    entry = entry_for(reply, body, entries, values)
    if entry is None:
        if 400 <= reply.status < 500 and reply.status not in _RETRIED and not inquiry:
            return Answer("failed", detail=f"refused: HTTP {reply.status}", evidence=evidence)
        detail = f"HTTP {reply.status}, of which the document says nothing"
        return Answer("retry", detail=detail, evidence=evidence, retry_after=wait)
    outcome = entry["outcome"]
    detail = entry.get("detail", f"HTTP {reply.status}")
    if outcome == "not_found":
        return Answer("completed", Grade.claimed, entry.get("detail", NOT_KNOWN), evidence=evidence)
    answered = {**values, "answer": body}
    check_after = entry.get("check_after")
    return Answer(
        outcome,
        _GRADES.get(outcome, Grade.none),
        detail=detail,
        ground=_one_text(entry.get("ground"), answered)[:_LONGEST_GROUND],
        reference=_one_text(entry.get("reference"), answered, _LONGEST_REFERENCE),
        evidence=evidence,
        check_after=None if check_after is None else min(max(wait or check_after, SOONEST_CHECK), LATEST_CHECK),
        retry_after=wait if outcome == "retry" else None,
    )


def together(answers: Sequence[Answer]) -> Answer:
    """One answer for all requests of a command: the worst outcome, and the references of what is under way."""
    worst = min(answers, key=lambda answer: _WORST_FIRST.index(answer.outcome))
    if len(answers) == 1:
        return worst
    under_way = [answer for answer in answers if answer.outcome in ("acknowledged", "dispatched")]
    evidence = "".join(answer.evidence for answer in answers)
    if worst.outcome == "completed" and any(answer.detail != NOT_KNOWN for answer in answers):
        worst = next(answer for answer in answers if answer.detail != NOT_KNOWN)
    # References of some of several jobs would end the command with them.
    references = dict.fromkeys(one.reference for one in under_way if worst in under_way and one.reference)
    return replace(
        worst,
        reference=" ".join(references),
        evidence=hashlib.sha256(evidence.encode()).hexdigest() if evidence else "",
        check_after=min((one.check_after for one in under_way if one.check_after is not None), default=None),
    )


def _one_text(template: str | None, values: Mapping[str, Any], longest: int | None = None) -> str:
    """A text with values of the answer; empty where it has none, or one that is longer than can be meant."""
    if template is None:
        return ""
    try:
        text = " ".join(render_texts({"": template}, values, "").get("", "").split())
    except TemplateError:
        return ""
    return "" if longest is not None and len(text) > longest else text


def _fits(entry: Mapping[str, Any], status: int, body: Any, values: Mapping[str, Any]) -> bool:
    wanted = entry["status"]
    if not any(one in (status, f"{status // 100}xx") for one in (wanted if isinstance(wanted, list) else [wanted])):
        return False
    # Conditions hold together for one item, so that they are not met by several persons' jobs.
    items = every(body, entry["among"]) if "among" in entry else [body]
    return any(_meets(item, entry.get("where", {}), values) for item in items)


def _meets(item: Any, conditions: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return all(_holds(every(item, path), wanted, values) for path, wanted in conditions.items())


def _holds(found: list[Any], wanted: Any, values: Mapping[str, Any]) -> bool:
    if isinstance(wanted, Mapping):
        if "present" in wanted:
            return bool(wanted["present"]) == any(one is not None for one in found)
        return any(isinstance(one, str) and wanted["contains"] in one for one in found)
    wanted = render(wanted, values, "where")
    return any(_same(one, each) for one in found for each in (wanted if isinstance(wanted, list) else [wanted]))


def _same(found: Any, wanted: Any) -> bool:
    return bool(found == wanted) and isinstance(found, bool) == isinstance(wanted, bool)
