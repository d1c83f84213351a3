"""Requests that nobody has to ask for: who is due by the policy in force is found in the table, and told to the topic
`erasure-requests`, where the tagger and the controller read it like any other request.

A request opens as `received` and stays so for a notice, in which everybody can see it coming and the cause may be put
right; then it is verified if the cause still stands, and cancelled if not. Level-triggered: what was told and got lost
is found and told again, as the same request. Decides nothing that processors/erasure_births.py could decide, and never
writes to the table.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from uuid import UUID

from clickhouse_driver import Client

from processors.case import DAY_MS
from processors.erasure import Step
from processors.erasure_births import REQUESTER, Birth, births
from processors.knowledge import ERASURE_CAUSES, Knowledge
from sinks.clickhouse.births import candidates, known_requests, people, waiting_requests
from streams.erasure_intake import ErasureIntake
from streams.kafka import Kafka
from streams.serdes import Registry

log = logging.getLogger(__name__)

# How long the controller and the projection of its requests may take to know of what was told.
TOLD_MS = 3_600_000
# For so long a request that nobody asked for is only announced: old data that has just come in is not gone at once.
NOTICE_MS = DAY_MS
MOST_AT_ONCE = 2_000
PEOPLE_AT_ONCE = 2_000
# Of a table that has grown large no more than this share of the time is spent on looking.
SHARE = 0.05
EVERY_MS: Mapping[str, int] = MappingProxyType({"retention": DAY_MS})


class Births:
    """Looks for people who are due and tells of them. One thread at a time. `most`: requests to open in one run; the
    rest is found again by the next. `every`: how often a cause is looked for, in ms; a cause that is not named: at
    every run. `notice`: how long a request is only announced, in ms.

    Methods raise `ClickHouseError`; `run_due` also `IntakeError`: what it has told by then is told.
    """

    def __init__(
        self,
        kafka: Kafka,
        client: Client,
        knowledge: Callable[[], Knowledge],
        registry: Registry | None = None,
        most: int = MOST_AT_ONCE,
        every: Mapping[str, int] = EVERY_MS,
        notice: int = NOTICE_MS,
    ) -> None:
        self._client = client
        self._knowledge = knowledge
        self._intake = ErasureIntake(kafka, registry)
        self._most = most
        self._every = every
        self._notice = notice
        # Cause → when it is looked for again; alias → when a request was told.
        self._next: dict[str, int] = {}
        self._told: dict[bytes, int] = {}
        # Requests that were confirmed or cancelled by this process, until the projection shows it.
        self._settled: set[UUID] = set()

    def born(self, now: int) -> list[Step]:
        """Steps of the requests that are due at `now` (ms) and not known yet. Tells nobody, remembers nothing."""
        steps: dict[bytes, Step] = {}
        for cause in ERASURE_CAUSES:
            for birth in due_people(self._client, self._knowledge(), cause, now):
                steps.setdefault(birth.alias, birth.step(now))
        return list(steps.values())

    def run_due(self, now: int) -> int:
        """Looks for what it is time to look for at `now` (ms), tells who is due, and gives how many requests; and
        confirms or cancels those whose notice is over."""
        self._confirm(now)
        self._told = {alias: at for alias, at in self._told.items() if at > now - TOLD_MS}
        told = Counter[str]()
        for cause in ERASURE_CAUSES:
            if self._next.get(cause, now) > now or told.total() >= self._most:
                continue
            start = time.monotonic()
            due = due_people(self._client, self._knowledge(), cause, now)
            some = list(islice((b for b in due if b.alias not in self._told), self._most - told.total()))
            rest = int((time.monotonic() - start) * 1000 / SHARE)
            for birth in some:
                self._tell(birth, now)
                told[cause] += 1
            # What was left over is not to wait for its day.
            every = self._every.get(cause, 0) if told.total() < self._most else 0
            self._next[cause] = now + max(rest, every)
        if told:
            log.info("erasure requests opened by themselves: %s", ", ".join(f"{c} {n}" for c, n in told.items()))
        return told.total()

    def close(self) -> None:
        self._intake.close()

    def _confirm(self, now: int) -> None:
        waiting = waiting_requests(self._client, list(ERASURE_CAUSES), REQUESTER, now - self._notice)
        self._settled &= {request_id for request_id, _, _ in waiting}
        for cause in dict.fromkeys(cause for _, _, cause in waiting):
            due = {birth.alias: birth for birth in standing(self._client, self._knowledge(), cause, now)}
            for request_id, alias, of in waiting:
                if of != cause or request_id in self._settled:
                    continue
                birth = due.get(alias)
                step = Step(request_id, alias, now, "cancelled", ground="the cause is gone", requester=REQUESTER)
                if birth is not None:
                    by = f"the policy, clause {birth.clause}"
                    step = Step(request_id, alias, now, "verified", origin=cause, verified_by=by, requester=REQUESTER)
                self._send(step)
                self._settled.add(request_id)

    def _tell(self, birth: Birth, now: int) -> None:
        self._send(birth.step(now))
        self._told[birth.alias] = now

    def _send(self, step: Step) -> None:
        self._intake.step(
            step.alias,
            step.request_id,
            step.step,
            origin=step.origin,
            verified_by=step.verified_by,
            ground=step.ground,
            requester=step.requester,
            occurred_at=step.occurred_at,
        )


def standing(client: Client, knowledge: Knowledge, cause: str, now: int) -> Iterator[Birth]:
    """Whoever is due for a cause at `now` (ms), with a request or without. Raises `ClickHouseError`."""
    view = knowledge.view(knowledge.epoch(now))
    found = list(candidates(client, cause, view, now, with_open=True).items())
    for start in range(0, len(found), PEOPLE_AT_ONCE):
        yield from births(people(client, dict(found[start : start + PEOPLE_AT_ONCE]), now), cause, view, now)


def due_people(client: Client, knowledge: Knowledge, cause: str, now: int) -> Iterator[Birth]:
    """Whoever is due for a cause at `now` (ms) without having a request for it. Raises `ClickHouseError`."""
    view = knowledge.view(knowledge.epoch(now))
    found = list(candidates(client, cause, view, now).items())
    for start in range(0, len(found), PEOPLE_AT_ONCE):
        some = dict(found[start : start + PEOPLE_AT_ONCE])
        due = births(people(client, some, now), cause, view, now)
        known = known_requests(client, [birth.request_id for birth in due])
        yield from (birth for birth in due if birth.request_id not in known)


def due_now(client: Client, knowledge: Knowledge, now: int) -> list[tuple[str, str, int]]:
    """(cause, clause, how many people are due at `now` (ms)) for every cause that the policy in force names.

    Raises `ClickHouseError`.
    """
    policy = knowledge.view(knowledge.epoch(now)).policy
    causes = {} if policy is None else policy.erasure
    return [
        (cause, causes[cause].clause, sum(1 for _ in due_people(client, knowledge, cause, now)))
        for cause in ERASURE_CAUSES
        if cause in causes
    ]
