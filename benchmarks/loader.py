"""`lineage bench loader`: the loader with its exactly-once protocol, against a plain Faust agent that loads.

Both read the same `lineage` topic and insert into ClickHouse at the same address, one after the other, each in a
process of its own, from a backlog; only the client's CPU counts. The Faust agent decodes event by event and inserts
lists of 1,000 rows with the driver's `execute`, at least once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.faust_peer import faust_app, raw_topic, run_faust
from benchmarks.measured import Phase, measure, ratios
from benchmarks.tagger import Plan as TaggerPlan
from benchmarks.tagger import tag
from benchmarks.workload import Workload, recipients
from sinks.clickhouse.client import connect
from sinks.clickhouse.lineage_table import LineageTable
from sinks.clickhouse.rows import COLUMNS_OF_FIELDS
from streams.kafka import Kafka
from streams.loader import Loader
from streams.serdes import Deserializer

OURS = "lineage loader"
PEER = "faust agent"


@dataclass(frozen=True)
class Plan:
    bootstrap: str
    clickhouse: str


def run(
    kafka: Kafka,
    clickhouse: str,
    publish: Callable[[list[dict[str, Any]]], None],
    progress: Callable[[str], None],
    people: int = 50_000,
    events: int = 1_000_000,
    peer_events: int = 20_000,
) -> dict[str, Any]:
    """Measures on an empty cluster and a migrated, empty database."""
    workload = Workload(people, events)
    workload.make_topics(kafka)
    publish(recipients())
    progress(f"producing {events:,} events of {people:,} people")
    workload.produce_consents(kafka)
    workload.produce_events(kafka)
    total = workload.consents + events
    progress(f"tagging them, to have {total:,} records to load")
    measure(tag, TaggerPlan(kafka.bootstrap, workload), [Phase("tagger", total)])
    progress("loading them")
    arguments = Plan(kafka.bootstrap, clickhouse)
    results = measure(load, arguments, [Phase(OURS, total)])
    progress(f"loading {peer_events:,} of them with a plain Faust agent")
    results += measure(load_with_faust, arguments, [Phase(PEER, peer_events)])
    return {"results": [r.as_json() for r in results], "ratios": ratios(results, OURS)}


def load(arguments: Plan, stop: Event, counting: Callable[[Callable[[], int]], None]) -> None:
    """The loader as it is deployed."""
    table, key = LineageTable(connect(arguments.clickhouse)), Ed25519PrivateKey.generate()
    loader = Loader(Kafka(arguments.bootstrap), table, key, instance="bench")
    loader.run(stop, ready=lambda: counting(lambda: loader.loaded))


def load_with_faust(arguments: Plan, stop: Event, counting: Callable[[Callable[[], int]], None]) -> None:
    """One agent: decode, make a row, insert a thousand at a time."""
    client = connect(arguments.clickhouse)
    client.execute("CREATE TABLE IF NOT EXISTS bench_faust AS lineage")
    deserializer = Deserializer()
    app = faust_app(arguments.bootstrap)
    source = raw_topic(app, "lineage")
    columns = sorted({column for fields in COLUMNS_OF_FIELDS.values() for column in fields.values()} - {"request_id"})
    columns = [c for c in columns if not c.startswith("erasure")]
    insert = f"INSERT INTO bench_faust ({', '.join(columns)}) VALUES"
    done = 0

    def row(event: Any) -> list[Any]:
        name, record = deserializer.decode(event.value)
        given = {
            **record,
            "subject": UUID(bytes=event.key),
            "event_id": UUID(bytes=record["event_id"]),
            "kafka_partition": event.message.partition,
            "kafka_offset": event.message.offset,
        }
        cells = {"activity": _ACTIVITY.get(name)} | {
            column: given[field] for field, column in COLUMNS_OF_FIELDS[name].items()
        }
        return [_cell(column, cells.get(column)) for column in columns]

    @app.agent(source, concurrency=1)  # type: ignore[untyped-decorator]
    async def loading(stream: Any) -> None:
        nonlocal done
        rows: list[list[Any]] = []
        async for event in stream.events():
            rows.append(row(event))
            if len(rows) == 1000:
                client.execute(insert, rows)
                done += len(rows)
                rows = []

    counting(lambda: done)
    run_faust(app, stop)


_ACTIVITY = {"CollectionRecorded": "collect", "ConsentRecorded": "consent"}
_DEFAULTS: dict[str, Any] = {
    **{name: [] for name in ("clauses", "findings", "fields", "data_categories", "given_categories")},
    **dict.fromkeys(("consent_action", "verdict", "legal_basis"), "none"),
    **dict.fromkeys(("event_type", "discloser"), ""),
    **dict.fromkeys(("consent_version", "policy_version"), 0),
    "sensitive": False,
}
_TIMES = {"occurred_at", "collected_at", "judged_at", "recipient_effective_at"}


def _cell(column: str, value: Any) -> Any:
    if column in _TIMES:
        return None if value is None else datetime.fromtimestamp(value / 1000, UTC)
    return _DEFAULTS.get(column) if value is None else value
