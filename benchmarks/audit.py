"""`lineage bench audit`: GDPRbench's roles against the running API, and one person's whole lineage by itself.

Clients ask over HTTP, each with a token of the role it needs, and every look at a person is recorded as in production.
What GDPRbench writes goes the way that it goes here: to Kafka, or in as an erasure request; it is measured until Kafka
has it. No job works it off meanwhile. The peer of the lineage is the same question to a plain table in the same engine,
in the order of time, that holds a tenth of the people: what a log of events is without this one's order.
"""

from __future__ import annotations

import random
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import accumulate
from threading import Barrier, BrokenBarrierError, Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import numpy as np
import orjson

from benchmarks import gdprbench as asked
from benchmarks.audit_table import PLAIN, event_ids, make, peer_subjects, request_ids, user
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.queries import events_of_subject
from streams.producer import LineageProducer

OVER_API = "a person's lineage, over the API"
BY_QUERY = "a person's lineage, the query"
PEER = "a plain table in the order of time, a tenth of the people"

_PURPOSES = ("2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7")
_ZIPF = 0.99
_WARMING_UP = 20
_PEER_QUERIES = 30
_PEER_QUERY = f"SELECT * FROM {PLAIN} WHERE subject = %(subject)s ORDER BY occurred_at"

_PARTS = """
SELECT sum(bytes_on_disk), count() FROM system.parts
WHERE active AND database = currentDatabase() AND table = 'lineage'
"""


@dataclass(frozen=True)
class Target:
    """Where to ask. `tokens`: role (auditor, clerk, overseer, eraser) → token."""

    clickhouse: str
    api: str
    kafka: str
    tokens: Mapping[str, str] = field(repr=False)
    pepper: bytes = field(repr=False)
    public_key: bytes


def run(
    target: Target,
    say: Callable[[str], None],
    rows: int = 20_000_000,
    people: int = 400_000,
    seconds: float = 15.0,
    clients: int = 2,
) -> dict[str, Any]:
    """Measures each role for so many seconds, and each way to a lineage. The database is migrated; empty, or filled by
    this before. `results`: of each role and query the `p50_ms`, `p95_ms`, `p99_ms`, how many a second, and `errors`:
    answers that were not what was asked for, which are in no other number."""
    connection = connect(target.clickhouse)
    make(connection, target.pepper, rows, people, say)
    world = _World(people, event_ids(connection, rows), request_ids())
    say("one person's lineage")
    results = [*_lineages(target, world, connection, seconds)]
    ratio = results[2]["p50_ms"] / results[1]["p50_ms"]
    for role, mix in asked.ROLES.items():
        say(f"the mix of the {role}")
        results += _role(target, world, role, mix, seconds, clients)
    [(disk, parts)] = execute(connection, _PARTS)
    connection.disconnect()
    answer: dict[str, Any] = {"rows": rows, "people": people, "clients": clients}
    answer |= {"bytes_on_disk": disk, "parts": parts}
    return answer | {"results": results, "ratios": {PEER: round(ratio, 1)}}


class _World:
    """What there is to ask about, and whom a distribution picks."""

    def __init__(self, people: int, events: Sequence[UUID], requests: Sequence[UUID]) -> None:
        self.people, self.events, self.requests = people, events, requests
        self._zipf = list(accumulate(1 / rank**_ZIPF for rank in range(1, people + 1)))

    def person(self, chance: random.Random, distribution: str) -> int:
        if distribution == "uniform":
            return chance.randrange(self.people)
        # The popular ones are scattered over everybody, as YCSB scatters them.
        rank = bisect_left(self._zipf, chance.random() * self._zipf[-1])
        return rank * 7_919 % self.people


class _Client:
    """One client with a connection of its own. `ask` returns the seconds it took; None: the answer was wrong."""

    def __init__(self, target: Target, world: _World, seed: int) -> None:
        parts = urlsplit(target.api)
        self._http = HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        self._target, self._world, self._chance = target, world, random.Random(seed)
        self._producer = LineageProducer(
            target.kafka, target.pepper, target.public_key, source="bench", config={"linger.ms": 0}
        )

    def close(self) -> None:
        self._http.close()
        self._producer.flush()

    def ask(self, query: str, distribution: str, role: str) -> float | None:
        person = user(self._world.person(self._chance, distribution))
        # A customer asks the app, whose clerk asks here.
        token = "clerk" if role == "customer" else "auditor"
        if query in (asked.CREATE, asked.UPDATE):
            return self._produced(lambda: self._producer.collected(person, "app_open", ["ip_address"], region="CN"))
        if query == asked.UPDATE_BY_PURPOSE:
            action = self._chance.choice(("grant", "withdraw"))
            return self._produced(lambda: self._producer.consent(person, action, activity="use", purpose="push"))
        if query == asked.UPDATE_BY_USER:
            return self._produced(lambda: self._producer.consent(person, "accept", version=1))
        if query == asked.DELETE:
            return self._call("POST", "/opendsr/2.0/requests", "eraser", _order(person), status=201)
        if query == asked.READ_BY_KEY:
            return self._call("GET", f"/api/v1/events/{self._chance.choice(self._world.events)}", token)
        if query == asked.BY_PURPOSE:
            return self._call("GET", f"/api/v1/events?purpose={self._chance.choice(_PURPOSES)}", token)
        if query == asked.LOGS:
            return self._call("GET", "/api/v1/looks", "overseer")
        if query == asked.VERIFY:
            return self._call("GET", f"/api/v1/requests/{self._chance.choice(self._world.requests)}", token)
        path = {asked.READ: "access-report", asked.PURPOSE_OF_USER: "accounting", asked.BY_USER: "lineage"}[query]
        body = {"user": person} | ({} if query == asked.READ else {"limit": 1000})
        return self._call("POST", f"/api/v1/subjects/{path}", token, body, holds=b'"subject":"')

    def _produced(self, produce: Callable[[], object]) -> float:
        start = time.perf_counter()
        produce()
        self._producer.flush()
        return time.perf_counter() - start

    def _call(
        self, method: str, path: str, token: str, body: object = None, status: int = 200, holds: bytes = b""
    ) -> float | None:
        headers = {"Authorization": f"Bearer {self._target.tokens[token]}", "X-Reason": "benchmark"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        start = time.perf_counter()
        self._http.request(method, path, None if body is None else orjson.dumps(body), headers)
        answer = self._http.getresponse()
        found = answer.read()
        seconds = time.perf_counter() - start
        return seconds if answer.status == status and holds in found else None


def _lineages(target: Target, world: _World, connection: Any, seconds: float) -> list[dict[str, Any]]:
    client = _Client(target, world, 1)
    for _ in range(_WARMING_UP):
        client.ask(asked.BY_USER, "uniform", "regulator")
    over_api = _repeat(lambda: client.ask(asked.BY_USER, "uniform", "regulator"), seconds)
    client.close()
    theirs = peer_subjects(connection)
    chance = random.Random(2)

    def timed(query: Callable[[UUID], Sequence[Any]]) -> float | None:
        subject = chance.choice(theirs)
        start = time.perf_counter()
        found = query(subject)
        return time.perf_counter() - start if found else None

    ours = _repeat(lambda: timed(lambda subject: events_of_subject(connection, subject)), seconds)
    peer = _repeat(
        lambda: timed(lambda subject: execute(connection, _PEER_QUERY, {"subject": subject})), seconds, _PEER_QUERIES
    )
    found = ((OVER_API, over_api), (BY_QUERY, ours), (PEER, peer))
    return [_told(system, None, times, sum(time for time in times if time)) for system, times in found]


def _repeat(ask: Callable[[], float | None], seconds: float, most: int | None = None) -> list[float | None]:
    times, until = [ask()], time.monotonic() + seconds
    while time.monotonic() < until and (most is None or len(times) < most):
        times.append(ask())
    return times


def _role(
    target: Target, world: _World, role: str, mix: asked.Mix, seconds: float, clients: int
) -> list[dict[str, Any]]:
    times: dict[str, list[float | None]] = {query: [] for query in mix.queries}
    failed: list[BaseException] = []
    # Each query once before it counts, on a connection that is open.
    ready = Barrier(clients + 1, timeout=300)

    def work(seed: int) -> None:
        try:
            client, chance = _Client(target, world, seed), random.Random(seed)
            drawn = list(mix.queries)
            for query in drawn[seed::clients]:
                if client.ask(query, mix.distribution, role) is None:
                    raise RuntimeError(f"{query} of the {role} is not answered as it should be: {asked.CALLS[query]}")
            ready.wait()
            begin = time.monotonic()
            while time.monotonic() < begin + seconds:
                [query] = chance.choices(drawn, list(mix.queries.values()))
                times[query].append(client.ask(query, mix.distribution, role))
            client.close()
        except BaseException as error:
            failed.append(error)
            ready.abort()

    threads = [Thread(target=work, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    with suppress(BrokenBarrierError):
        ready.wait()
    begin = time.monotonic()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    elapsed = time.monotonic() - begin
    every = [one for found in times.values() for one in found]
    told = [_told(role, query, found, elapsed) for query, found in times.items()]
    return [_told(role, None, every, elapsed), *told]


def _told(system: str, query: str | None, times: Sequence[float | None], elapsed: float) -> dict[str, Any]:
    good = [seconds for seconds in times if seconds is not None]
    told: dict[str, Any] = {"system": system}
    if query is not None:
        told |= {"query": query, "call": asked.CALLS[query]}
    told |= {"asked": len(times), "errors": len(times) - len(good), "per_s": round(len(good) / max(elapsed, 1e-9), 1)}
    values = np.percentile(np.array(good) * 1000, [50, 95, 99]) if good else [None] * 3
    for name, value in zip(("p50_ms", "p95_ms", "p99_ms"), values, strict=True):
        told[name] = None if value is None else round(float(value), 1)
    return told


def _order(person: str) -> dict[str, Any]:
    identity = {"identity_type": "controller_customer_id", "identity_format": "raw", "identity_value": person}
    return {
        "regulation": "gdpr",
        "subject_request_id": str(uuid4()),
        "subject_request_type": "erasure",
        "submitted_time": "2026-03-01T08:00:00Z",
        "subject_identities": [identity],
    }
