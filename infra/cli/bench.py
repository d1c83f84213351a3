"""`lineage bench NAME`: a benchmark on real parts of its own, in a temporary directory."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import click

from infra.cli.bench_audit import measure_audit, tell_audit
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

NAMES = ("tagger", "loader", "erasure", "audit")


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.option("--people", type=click.IntRange(1), help="How many people the events are of.")
@click.option("--events", type=click.IntRange(1), help="Events for ours.")
@click.option("--peer-events", type=click.IntRange(1), help="Events for the peer, which is slower.")
@click.option("--rows", type=click.IntRange(1000), help="erasure, audit: rows in the table; 20 million.")
@click.option("--erased", type=click.IntRange(1), help="erasure: how many people are purged as one batch; 10,000.")
@click.option("--requests", type=click.IntRange(0), help="erasure: requests to dispatch, 0 for none; 1,000.")
@click.option("--targets", type=click.IntRange(1), help="erasure: recipients of each request; 20.")
@click.option("--seconds", type=click.FloatRange(0.1), help="audit: how long each role asks; 15.")
@click.option("--clients", type=click.IntRange(1), help="audit: clients that ask at once; 2.")
@click.option("--folder", type=click.Path(path_type=Path), help="audit: keeps the filled database for the next time.")
@json_option
@located
def bench(
    name: str,
    people: int | None,
    events: int | None,
    peer_events: int | None,
    rows: int | None,
    erased: int | None,
    requests: int | None,
    targets: int | None,
    seconds: float | None,
    clients: int | None,
    folder: Path | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Measure on real parts of its own, in a temporary directory.

    tagger, loader: against a plain Faust agent that does the same, in one run: events a second, CPU microseconds an
    event, memory, and how many times the peer's throughput per CPU second ours is. erasure: how long the purge of many
    people from a full table takes, against one person alone, and what a reader feels of it; and how long from many
    requests to the last command at many recipients. audit: the mixes of GDPRbench's roles over the API, and one
    person's whole lineage.

    \b
    Examples:
      lineage bench tagger --json
      lineage bench erasure --rows 2000000
      lineage bench audit --folder /var/tmp/lineage-bench
    """
    given: dict[str, Any] = {"people": people, "events": events, "peer_events": peer_events}
    given |= {"rows": rows, "erased": erased, "seconds": seconds, "clients": clients}
    dispatched = {"requests": 1000 if requests is None else requests, "targets": targets or 20}
    of_jobs = {"people", "events", "peer_events"}
    taken = {"erasure": {"people", "rows", "erased"}, "audit": {"people", "rows", "seconds", "clients"}}.get(
        name, of_jobs
    )
    if strange := [key for key, size in given.items() if size and key not in taken]:
        raise click.UsageError(f"--{strange[0].replace('_', '-')} is not for {name}")
    sizes = {key: size for key, size in given.items() if size}
    # A benchmark that is told to end must take its broker along.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    if folder is not None and name != "audit":
        raise click.UsageError(f"--folder is not for {name}")
    with tempfile.TemporaryDirectory(prefix="lineage-bench-") as temporary:
        if name == "audit":
            answer = measure_audit(folder or Path(temporary), settings, sizes)
        elif name == "erasure":
            answer = _measure_erasure(Path(temporary), sizes)
            if dispatched["requests"]:
                answer["results"] += _measure_dispatch(Path(temporary) / "stack", settings, dispatched)["results"]
        else:
            answer = _measure(name, Path(temporary), settings, sizes)
    if as_json:
        write_json(answer)
        return
    if name == "audit":
        tell_audit(answer)
        return
    if name == "erasure":
        _tell_erasure(answer)
        return
    lines = [
        [
            result["system"],
            f"{result['events_per_s']:,.0f}",
            f"{result['cpu_us_per_event']:.2f}",
            f"{result['rss_mb']:.0f}",
        ]
        for result in answer["results"]
    ]
    for line in table(lines, ["system", "events/s", "CPU µs/event", "MB"]):
        click.echo(line)
    for peer, ratio in answer["ratios"].items():
        click.echo(f"{ratio:.1f} times the throughput per CPU second of {peer}")


def _tell_erasure(answer: dict[str, Any]) -> None:
    for result in answer["results"]:
        figures = ", ".join(
            f"{key} {value:,}" for key, value in result.items() if key != "system" and value is not None
        )
        click.echo(f"{result['system']}: {figures}")
    for peer, ratio in answer["ratios"].items():
        click.echo(f"{ratio:,.1f} times as many people a second as {peer}")


def _measure_erasure(folder: Path, sizes: dict[str, int]) -> dict[str, Any]:
    from benchmarks import erasure

    database = LocalClickHouse(folder / "clickhouse")
    try:
        say("starting ClickHouse")
        database.start()
        client = connect(database.url)
        migrate.apply(client)
        client.disconnect()
        # What a migration says of the engine's cleaner holds from its next start on.
        database.stop()
        database.start()
        return erasure.run(database.url, say, **sizes)
    finally:
        database.stop()


def _measure_dispatch(data: Path, settings: Settings, sizes: dict[str, int]) -> dict[str, Any]:
    from benchmarks import erasure_dispatch
    from infra.cli.demo_erasure import run
    from streams.producer import LineageProducer

    own = replace(settings, data=data, kafka_bootstrap=None, clickhouse_url=None, secret_files={}, connectors=None)
    say("starting a whole stack")
    run(own, "up", "--background")
    try:
        kafka = own.kafka()
        with LineageProducer(kafka.bootstrap, own.pepper(), own.controller_public_key()) as producer:
            return erasure_dispatch.run(kafka, producer, own.pepper(), data, _play, say, **sizes)
    finally:
        run(own, "down")


def _play(folder: Path, names: Sequence[str], connectors: Path, secrets: Path, up: Event, stop: Event) -> None:
    from infra.simulator.recipients import RecipientSimulator

    simulator = RecipientSimulator(folder, dict.fromkeys(names, "opendsr"))
    simulator.start()
    simulator.write_connectors(connectors, secrets)
    (folder / "url").write_text(simulator.url)
    up.set()
    stop.wait()
    simulator.stop()


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
