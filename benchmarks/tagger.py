"""`lineage bench tagger`: the tagger with transactions on, against a plain Faust agent that tags event by event.

Both run on the same broker and the same records, one after the other, each in a process of its own, from a backlog.
The Faust agent gets its consents ready-made in memory, keeps no changelog and uses no transactions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

from benchmarks.faust_peer import faust_app, raw_topic, run_faust
from benchmarks.measured import Measurement, Phase, measure, ratios
from benchmarks.one_by_one import OneByOne
from benchmarks.workload import Workload, recipients
from streams.kafka import Kafka
from streams.tagger import Tagger

OURS = "lineage tagger"
PEER = "faust agent"


@dataclass(frozen=True)
class Plan:
    bootstrap: str
    workload: Workload


def run(
    kafka: Kafka,
    publish: Callable[[list[dict[str, Any]]], None],
    progress: Callable[[str], None],
    people: int = 50_000,
    events: int = 1_000_000,
    peer_events: int = 20_000,
) -> dict[str, Any]:
    """Measures on an empty cluster. `publish` puts a policy and the given recipients on it."""
    workload = Workload(people, events)
    workload.make_topics(kafka)
    publish(recipients())
    progress(f"producing {workload.consents:,} consents of {people:,} people")
    workload.produce_consents(kafka)

    def produce_events() -> None:
        progress(f"producing {events:,} events")
        workload.produce_events(kafka)
        progress("tagging them")

    phases = [
        Phase(f"{OURS}, consents", workload.consents),
        # The first events meet tails, decisions and people for the first time: told apart, not hidden.
        Phase(f"{OURS}, first {events // 5:,} events", workload.consents + events // 5, produce_events),
        Phase(OURS, workload.consents + events),
    ]
    results = measure(tag, Plan(kafka.bootstrap, workload), phases)
    progress(f"tagging {peer_events:,} of them with a plain Faust agent")
    results += measure(tag_with_faust, Plan(kafka.bootstrap, workload), [Phase(PEER, peer_events)])
    return report(results)


def report(results: list[Measurement]) -> dict[str, Any]:
    peers = [r for r in results if r.system in (OURS, PEER)]
    return {"results": [r.as_json() for r in results], "ratios": ratios(peers, OURS)}


def tag(arguments: Plan, stop: Event, counting: Callable[[Callable[[], int]], None]) -> None:
    """The tagger as it is deployed."""
    tagger = Tagger(Kafka(arguments.bootstrap), instance="bench")
    tagger.run(stop, ready=lambda: counting(lambda: tagger.tagged))


def tag_with_faust(arguments: Plan, stop: Event, counting: Callable[[Callable[[], int]], None]) -> None:
    """One agent: decode, look the person up, judge, encode, send. Nothing kept, nothing batched."""
    one_by_one = OneByOne(Kafka(arguments.bootstrap), arguments.workload)
    app = faust_app(arguments.bootstrap)
    source = raw_topic(app, "telemetry", "sharing")
    sink = raw_topic(app, "violations")
    done = 0

    @app.agent(source, concurrency=1)  # type: ignore[untyped-decorator]
    async def tagging(stream: Any) -> None:
        nonlocal done
        async for event in stream.events():
            key, value = one_by_one.tag(event.key, event.value, time.time_ns() // 1_000_000)
            await sink.send(key=key, value=value)
            done += 1

    counting(lambda: done)
    run_faust(app, stop)
