"""`lineage bench NAME`: a benchmark on real parts of its own, in a temporary directory."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import Any

import click

from infra.cli.options import json_option, located, say, table, write_json
from infra.local.clickhouse import LocalClickHouse
from infra.local.jars import default_cache_dir, ensure_jars
from infra.local.java import java_command
from infra.local.kafka import LocalKafka
from infra.local.preparation import shipped_policy
from infra.settings import Settings
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect
from streams.kafka import Kafka
from streams.policies import load_policy, policy_record
from streams.publishing import publish_policies, publish_recipients

NAMES = ("tagger", "loader")


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option("--people", type=click.IntRange(1), help="How many people the events are of.")
@click.option("--events", type=click.IntRange(1), help="Events for ours.")
@click.option("--peer-events", type=click.IntRange(1), help="Events for the peer, which is slower.")
@json_option
@located
def bench(
    name: str, people: int | None, events: int | None, peer_events: int | None, as_json: bool, settings: Settings
) -> None:
    """Measure a job against a plain Faust agent that does the same, in one run, on an Apache Kafka of its own.

    Shows events a second, CPU microseconds an event, memory, and how many times the peer's throughput per CPU second
    ours is.

    Example: lineage bench tagger --json
    """
    sizes = {key: size for key, size in (("people", people), ("events", events), ("peer_events", peer_events)) if size}
    # A benchmark that is told to end must take its broker along.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with tempfile.TemporaryDirectory(prefix="lineage-bench-") as folder:
        answer = _measure(name, Path(folder), settings, sizes)
    if as_json:
        write_json(answer)
        return
    rows = [
        [
            result["system"],
            f"{result['events_per_s']:,.0f}",
            f"{result['cpu_us_per_event']:.2f}",
            f"{result['rss_mb']:.0f}",
        ]
        for result in answer["results"]
    ]
    for line in table(rows, ["system", "events/s", "CPU µs/event", "MB"]):
        click.echo(line)
    for peer, ratio in answer["ratios"].items():
        click.echo(f"{ratio:.1f} times the throughput per CPU second of {peer}")


def _measure(name: str, folder: Path, settings: Settings, sizes: dict[str, int]) -> dict[str, Any]:
    jars = ensure_jars(default_cache_dir(), say, maven_repository=settings.maven_repository)
    broker = LocalKafka(folder / "kafka", jars=jars, java=java_command(settings.java_home))
    database = LocalClickHouse(folder / "clickhouse")
    try:
        say("starting Apache Kafka")
        broker.start()
        kafka = Kafka(broker.bootstrap, {"log_level": 2})

        def publish(recipients: list[dict[str, Any]]) -> None:
            publish_policies(kafka, [policy_record(load_policy(shipped_policy()))])
            publish_recipients(kafka, recipients)

        if name == "tagger":
            from benchmarks import tagger

            return tagger.run(kafka, publish, say, **sizes)
        from benchmarks import loader

        say("starting ClickHouse")
        database.start()
        client = connect(database.url)
        migrate.apply(client)
        client.disconnect()
        return loader.run(kafka, database.url, publish, say, **sizes)
    finally:
        database.stop()
        broker.stop()
