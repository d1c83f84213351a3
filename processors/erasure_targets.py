"""What becomes of an erasure request's targets: found, opened again, answered, given up, purged.

Pure. An observation may come again, after a crash or twice from outside, and must then change nothing more. Nothing
becomes `completed` because a message was sent: that takes the recipient's word at least (design §10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from processors.erasure import (
    SECOND,
    STORE,
    Disclosure,
    Request,
    Route,
    Target,
    Terms,
    due_next,
    ended,
    noted,
    with_target,
)
from processors.erasure_commands import Answer, Grade, idempotency_key


def enumerate_targets(
    request: Request,
    disclosures: Iterable[Disclosure],
    routes: Callable[[str], Route],
    stores: Iterable[str],
    now: int,
    terms: Terms,
) -> Request:
    """Takes disclosures that have not been seen before: new targets, and targets that got more since they were asked.

    What came behind the last look reopens a target that was asked before, under a new round and hence a new key. What
    was disclosed after the recipient's own `completed` raises an alarm.
    """
    targets = {target.id: target for target in request.targets}
    for store in stores:
        targets.setdefault(STORE + store, Target(STORE + store, 0, protocol="purge"))
    texts: list[str] = []
    alarms = list(request.alarms)
    for seen in disclosures:
        known = targets.get(seen.recipient)
        if known is None:
            targets[seen.recipient] = _new_target(seen, routes(seen.recipient), now)
            continue
        hop = min((h for h in (known.hop, seen.hop) if h is not None), default=None)
        newest = max(seen.last_at, known.disclosed_at or seen.last_at)
        changed = replace(known, hop=hop, disclosed_at=newest)
        if known.claimed_at is not None and seen.last_at > known.claimed_at:
            alarm = f"{known.id} got data after it had said that it was completed"
            texts.append(f"alarm: {alarm}")
            alarms += [alarm] if alarm not in alarms else []
        if (known.is_final and known.state != "exempt") or known.attempts:
            changed = _reopened(changed, now)
            texts.append(f"{known.id} got more data since it was asked: asked again")
        targets[known.id] = changed
    for text in texts:
        request = noted(request, now, text)
    return due_next(replace(request, targets=tuple(targets.values()), alarms=tuple(alarms)), now, terms)


def _new_target(seen: Disclosure, route: Route, now: int) -> Target:
    target = Target(seen.recipient, seen.hop, protocol=route.protocol, disclosed_at=seen.last_at, next_at=now)
    if route.exempt:
        return replace(target, state="exempt", ground=route.exempt, ended_at=now, next_at=None)
    return target


def _reopened(target: Target, now: int) -> Target:
    return replace(
        target,
        state="waiting",
        grade="none",
        round=target.round + 1,
        attempts=0,
        next_at=now,
        dispatched_at=None,
        ended_at=None,
        detail="",
        ground="",
        reference="",
    )


# Answers


def take_answer(
    request: Request,
    target_id: str,
    answer: Answer,
    now: int,
    terms: Terms,
    key: UUID | None = None,
    *,
    unasked: bool = False,
) -> Request:
    """What a target said, at a dispatch, an inquiry or by itself. `key`: the command it answers, where that is known;
    an answer to an earlier round says nothing of this one. `unasked`: it came by itself, and its next word may get
    lost: unless this was the last one, what was planned stays planned."""
    target = request.target(target_id)
    if target is None or request.is_ended or target.is_store:
        return request
    if key is not None and key != request.key(target):
        return noted(request, now, f"{target_id}: an answer to an earlier command: {answer.outcome}")
    if target.is_final and not _outdoes(target, answer):
        return request
    changed = _answered(target, answer, now, terms)
    if unasked and not changed.is_final:
        changed = replace(changed, next_at=target.next_at)
    text = f"{target_id}: {changed.state}" + (f" ({answer.detail})" if answer.detail else "")
    if (changed.state, changed.grade, changed.detail) != (target.state, target.grade, target.detail):
        request = noted(request, now, text)
    return due_next(with_target(request, changed), now, terms)


def _outdoes(target: Target, answer: Answer) -> bool:
    """A final state changes only for better evidence, or for success after a failure."""
    if answer.outcome != "completed":
        return False
    return target.state != "completed" or answer.grade > Grade[target.grade]


def _answered(target: Target, answer: Answer, now: int, terms: Terms) -> Target:
    outcome = answer.outcome
    if outcome == "completed" and answer.grade < Grade.claimed:
        # Nobody has said so.
        outcome = "acknowledged"
    evidence = target.evidence
    if answer.evidence and answer.evidence not in evidence:
        evidence = (*evidence, answer.evidence)
    told = replace(
        target,
        detail=answer.detail[:500],
        reference=answer.reference or target.reference,
        evidence=evidence,
        next_at=None,
    )
    match outcome:
        case "retry":
            wait = backoff(terms, target)
            if target.state != "waiting" and target.dispatched_at is not None:
                # An inquiry, which no attempt counts: the longer it has been going on, the seldomer.
                wait = max(wait, min((now - target.dispatched_at) // 10, terms.longest_backoff))
            if answer.retry_after is not None:
                wait = max(wait, int(answer.retry_after * SECOND))
            return replace(told, next_at=now + wait)
        case "dispatched" | "acknowledged":
            grade = max(Grade[target.grade], answer.grade)
            if outcome == "acknowledged":
                # A signed acceptance proves that it was accepted, no more.
                grade = Grade.acknowledged
            state = "acknowledged" if "acknowledged" in (outcome, target.state) else "dispatched"
            check = None if answer.check_after is None else now + int(answer.check_after * SECOND)
            return replace(told, state=state, grade=grade.name, next_at=check)
        case "completed":
            # Its first claim: whatever was disclosed since then contradicts it, however often it has claimed it again.
            claimed_at = now if target.claimed_at is None else target.claimed_at
            return replace(
                told, state="completed", grade=answer.grade.name, ended_at=now, claimed_at=claimed_at, ground=""
            )
        case _:
            return replace(told, state=outcome, ended_at=now, ground=answer.ground or answer.detail[:500])


def order_retry(request: Request, target_id: str, now: int, terms: Terms, by: str = "") -> Request:
    """An operator wants a target asked again at once: the same round, hence the same key. by: who it is, if told."""
    target = request.target(target_id)
    if target is None or request.is_ended or target.is_store or target.state in ("completed", "exempt"):
        return request
    if request.erased_at is not None and all(t.is_final for t in request.recipients):
        return noted(request, now, f"{target_id}: too late for a retry, the person has been let go")
    again = replace(target, state="waiting", next_at=now, ended_at=None, ground="")
    told = f"{target_id}: retry ordered" + (f" by {by}" if by else "")
    return due_next(noted(with_target(request, again), now, told), now, terms)


def attempted(request: Request, target_id: str, now: int, lease: int) -> Request:
    """A command is about to be sent: counted before, so that a crash in between is seen; nothing heard of it for
    `lease` ms, it is sent again with the same key."""
    request = leased(request, target_id, now, lease)
    target = request.target(target_id)
    assert target is not None
    first = target.dispatched_at if target.dispatched_at is not None else now
    return with_target(request, replace(target, attempts=target.attempts + 1, dispatched_at=first))


def leased(request: Request, target_id: str, now: int, lease: int) -> Request:
    """A target is being asked: nothing more is due for it for `lease` ms."""
    target = request.target(target_id)
    assert target is not None
    return with_target(request, replace(target, next_at=now + lease))


def backoff(terms: Terms, target: Target) -> int:
    """ms until the next attempt: doubled each time, with a jitter of ±25 % that the target and attempt fix."""
    doubled = terms.first_backoff * 2 ** min(max(target.attempts - 1, 0), 30)
    jitter = idempotency_key(UUID(int=target.attempts), target.id, target.round).int % 1000 / 2000 + 0.75
    return int(min(doubled, terms.longest_backoff) * jitter)


def give_up(request: Request, now: int, terms: Terms) -> Request:
    """The term is nearly over: whoever has not answered has failed, and the person's data leaves the own stores."""
    failed = [t for t in request.recipients if not t.is_final]
    for target in failed:
        ground = f"no proof of deletion by the end of the term; last: {target.detail or target.state}"
        ended = replace(target, state="failed", ground=ground, ended_at=now, next_at=None)
        request = noted(with_target(request, ended), now, f"{target.id}: failed (term over)")
    return due_next(request, now, terms) if failed else request


def begin_purge(request: Request, now: int) -> Request:
    """The own purge may begin: all that was judged before the link was dropped is loaded. Kept in the request, because
    the purge takes away what that was seen by."""
    stores = [target for target in request.targets if target.is_store and target.state == "waiting"]
    for store in stores:
        request = with_target(request, replace(store, state="dispatched", dispatched_at=now))
    return noted(request, now, "the own purge begins") if stores else request


def is_purging(request: Request) -> bool:
    """Whether the own purge has begun."""
    return any(target.is_store and target.state == "dispatched" for target in request.targets)


def purged(request: Request, rows: Mapping[str, int], now: int, terms: Terms) -> Request:
    """The own stores are empty of the person: survivors were counted, there are none. `rows`: store → rows removed, or
    emptied."""
    for store, count in rows.items():
        target = request.target(STORE + store) or Target(STORE + store, 0, protocol="purge")
        done = replace(target, state="completed", grade="verified", detail=f"{count} rows erased, 0 left", ended_at=now)
        request = with_target(request, done)
    return due_next(noted(request, now, "own stores purged"), now, terms)


def end(request: Request, now: int) -> Request:
    """All is done; what is left ties the request to no one. The certificate is made of this, and put in after it."""
    assert all(target.is_final for target in request.targets)
    complete = all(target.state == "completed" for target in request.targets)
    return ended(request, "completed" if complete else "partially_completed", now)
