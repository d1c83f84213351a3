"""Worlds for the erasure planner: random disclosure graphs, recipients of every kind, lost and repeated answers.

A world plays everything outside the planner (log, recipients, crashes) and keeps its own account of who got data and
who was asked what, from which the planner's end is judged.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from random import Random
from uuid import UUID

from processors.erasure import DAY, PUBLIC, SECOND, Disclosure, Request, Route, Step, Terms, due, due_next
from processors.erasure_commands import Answer, Grade
from processors.erasure_steps import take_step
from processors.erasure_targets import (
    attempted,
    begin_purge,
    end,
    enumerate_targets,
    give_up,
    is_purging,
    leased,
    order_retry,
    purged,
    take_answer,
)
from processors.hops import disclosure_hop, recipient_hops

TERMS = Terms(response=30 * DAY, margin=DAY, look=5 * SECOND, longest_backoff=3 * DAY)
LEASE = 3600 * SECOND
STORES = ("lineage", "subjects")
NAMES = ("acme", "blue", "corn", "dune", "echo", "fern", "gale")
ALIAS, REQUEST = b"a" * 16, UUID(int=7)
MOST_STEPS = 5_000


@dataclass(frozen=True)
class Passed:
    """One disclosure. `offset`: its place in the log; `arrives`: when the log has it; `occurred_at`: when it was."""

    offset: int
    arrives: int
    occurred_at: int
    discloser: str
    recipient: str | None


@dataclass
class Recipient:
    """How it answers: `script` one outcome for each attempt, the last again and again; `loses`: how likely an answer
    is lost on its way, the recipient having acted all the same."""

    script: tuple[str, ...]
    loses: float
    delay: int
    keys: list[UUID] = field(default_factory=list)
    deleted: dict[UUID, int] = field(default_factory=dict)
    reopened_by: int = 0


@dataclass
class Ended:
    """How a world ended."""

    request: Request
    passed: list[Passed]
    recipients: dict[str, Recipient]
    offsets_at_claim: dict[str, int]
    dropped_at: int
    claims: dict[str, list[int]]


OUTCOMES = (
    "completed",
    "completed",
    "completed",
    "failed",
    "unsupported",
    "exempt",
    "acknowledged",
    "dispatched",
    "retry",
)


def draw(rng: Random) -> tuple[list[Passed], dict[str, Recipient]]:
    """A graph with hops, cycles and late edges, and how each recipient behaves."""
    names = NAMES[: rng.randint(0, len(NAMES))]
    recipients = {
        name: Recipient(
            script=tuple(rng.choice(OUTCOMES) for _ in range(rng.randint(1, 4))),
            loses=rng.choice((0, 0, 0.2, 0.7)),
            delay=rng.choice((0, SECOND, 3600 * SECOND, 3 * DAY)),
        )
        for name in (*names, PUBLIC)
    }
    count = rng.randint(0, 3 * len(names)) if names else rng.randint(0, 1)
    arrivals = sorted(_arrival(rng) for _ in range(count))
    passed = []
    for offset, arrives in enumerate(arrivals):
        recipient = rng.choice((*names, None)) if names else None
        discloser = rng.choice(("self", *names))
        late = rng.choice((0, 0, SECOND, 5 * DAY))
        passed.append(Passed(offset, arrives, arrives - late, discloser, recipient))
    return passed, recipients


def _arrival(rng: Random) -> int:
    return rng.choice((0, rng.randint(0, 10 * SECOND), rng.randint(0, 2 * DAY), rng.randint(0, 40 * DAY)))


class World:
    """Plays one request from its first step to its end. `seed` fixes everything."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self.passed, self.recipients = draw(self._rng)
        self._now = SECOND
        self._seen = 0
        self._scanned = 0
        self._flying: list[tuple[int, str, Answer, UUID]] = []
        self._late_words: list[tuple[str, Answer, UUID]] = []
        self._offsets_at_claim: dict[str, int] = {}
        self._claims: defaultdict[str, list[int]] = defaultdict(list)
        self._answers: defaultdict[str, int] = defaultdict(int)

    def play(self) -> Ended:
        rng = self._rng
        fence_at = self._now + rng.choice((SECOND, 60 * SECOND, 10 * SECOND))
        request = self._opened()
        dropped_at: int | None = None
        for _ in range(MOST_STEPS):
            if request.is_ended:
                return Ended(
                    request, self.passed, self.recipients, self._offsets_at_claim, dropped_at or 0, dict(self._claims)
                )
            assert request.next_at is not None, "an open request that nothing will ever look at again"
            self._now = max(self._now + 1, min([request.next_at, *(at for at, *_ in self._flying)]))
            for answer in [one for one in self._flying if one[0] <= self._now]:
                self._flying.remove(answer)
                request = self._told(request, *answer[1:])
            todo = due(request, self._now, TERMS)
            if todo.locate:
                if self._now >= fence_at:
                    request = self._located(request)
                else:
                    request = replace(request, next_at=self._now + TERMS.look)
                continue
            if request.fence_offset is not None:
                request = self._scan(request, dropped_at)
                todo = due(request, self._now, TERMS)
            if todo.give_up:
                request = give_up(request, self._now, TERMS)
                todo = due(request, self._now, TERMS)
            if todo.tell_erased:
                request = replace(request, erased_at=self._now)
                # The tagger drops the link a little later; what is judged until then is of the old subject.
                dropped_at = self._now + rng.choice((1, SECOND, 30 * SECOND))
            for target_id in todo.dispatch:
                request = self._dispatch(request, target_id)
            for target_id in todo.check:
                request = self._check(request, target_id)
            if rng.random() < 0.02 and request.recipients:
                request = order_retry(request, rng.choice(request.recipients).id, self._now, TERMS)
            if todo.purge:
                assert dropped_at is not None
                if self._scanned_to(dropped_at):
                    request = begin_purge(begin_purge(request, self._now), self._now)
                    assert is_purging(request)
                    request = end(purged(request, dict.fromkeys(STORES, 3), self._now, TERMS), self._now)
                    continue
                request = replace(request, next_at=self._now + TERMS.look)
                continue
            request = due_next(request, self._now, TERMS)
        raise AssertionError("the request does not come to an end")

    def _opened(self) -> Request:
        step = Step(REQUEST, ALIAS, self._now, "received")
        verified = replace(step, step="verified", verified_by="test")
        [request] = take_step(None, None, step if self._rng.random() < 0.5 else verified, TERMS)
        for again in (verified, step, verified):
            for changed in take_step(request, request, again, TERMS):
                request = changed
        return request

    def _located(self, request: Request) -> Request:
        known = [p for p in self.passed if p.arrives <= self._now]
        self._seen = len(known)
        self._scanned = self._now
        request = replace(request, subject=UUID(int=9), fence_partition=0, fence_offset=len(known))
        hops = recipient_hops((p.discloser, p.recipient) for p in known)
        return self._enumerated(request, known, hops)

    def _scan(self, request: Request, dropped_at: int | None) -> Request:
        until = self._now if dropped_at is None else min(self._now, dropped_at)
        new = [p for p in self.passed[self._seen :] if p.arrives <= until]
        self._scanned = self._now
        if not new:
            return request
        self._seen += len(new)
        hops = {t.id: t.hop for t in request.recipients if t.hop is not None}
        return self._enumerated(replace(request, fence_offset=self._seen), new, hops)

    def _scanned_to(self, moment: int) -> bool:
        return self._scanned > moment

    def _enumerated(self, request: Request, passed: list[Passed], hops: dict[str, int]) -> Request:
        for p in passed:
            self.recipients[p.recipient or PUBLIC].reopened_by += 1
        seen = [Disclosure(p.recipient or PUBLIC, disclosure_hop(p.discloser, hops), p.occurred_at) for p in passed]
        return enumerate_targets(request, seen, lambda _id: Route("http"), STORES, self._now, TERMS)

    def _dispatch(self, request: Request, target_id: str) -> Request:
        request = attempted(request, target_id, self._now, LEASE)
        target = request.target(target_id)
        assert target is not None
        key = request.key(target)
        recipient = self.recipients[target_id]
        recipient.keys.append(key)
        outcome = recipient.script[min(self._answers[target_id], len(recipient.script) - 1)]
        self._answers[target_id] += 1
        self._fly(recipient, target_id, key, outcome)
        return request

    def _check(self, request: Request, target_id: str) -> Request:
        target = request.target(target_id)
        assert target is not None
        recipient = self.recipients[target_id]
        outcome = recipient.script[min(self._answers[target_id], len(recipient.script) - 1)]
        self._answers[target_id] += 1
        self._fly(recipient, target_id, request.key(target), outcome)
        return leased(request, target_id, self._now, LEASE)

    def _fly(self, recipient: Recipient, target_id: str, key: UUID, outcome: str) -> None:
        grade = Grade.none
        if outcome == "completed":
            recipient.deleted.setdefault(key, self._now)
            # Now and then a connector claims more than it heard.
            grade = self._rng.choice((Grade.claimed, Grade.signed, Grade.signed, Grade.dispatched))
        check = (
            None
            if outcome == "dispatched" and self._rng.random() < 0.5
            else float(self._rng.choice((86_400, 5 * 86_400)))
        )
        answer = Answer(outcome, grade, detail=outcome, check_after=check)  # type: ignore[arg-type]
        if self._rng.random() < recipient.loses:
            return
        at = self._now + self._rng.choice((0, recipient.delay))
        self._flying += [(at, target_id, answer, key)] * self._rng.choice((1, 1, 2))

    def _told(self, request: Request, target_id: str, answer: Answer, key: UUID) -> Request:
        before = request.target(target_id)
        request = take_answer(request, target_id, answer, self._now, TERMS, key)
        after = request.target(target_id)
        if before is not None and after is not None and before.state != "completed" and after.state == "completed":
            self._claims[target_id].append(self._now)
            self._offsets_at_claim[target_id] = self._seen
        return request
