"""`lineage ingest`: from the shape people already have to the input topics."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from threading import Event
from typing import Any, TextIO

import click

from infra.cli.options import ProgressLine, json_option, located, say, write_json
from infra.settings import Settings
from infra.stopping import set_by_signals
from streams.producer import LineageProducer
from streams.sources.ingest import Tally
from streams.sources.ingest import ingest as run_ingest
from streams.sources.mapping import Mapping, load_mapping

_SHOWN_REASONS = 10


@click.command()
@click.argument("source", metavar="FILE|TOPIC|-")
@click.option("--mapping", required=True, metavar="NAME|FILE", help="A mapping that ships, or a YAML file of yours.")
@click.option("--limit", type=click.IntRange(1), help="Read at most so many rows.")
@click.option("--follow", is_flag=True, help="Of a topic: go on until Ctrl-C.")
@click.option("--rejections", type=click.Path(path_type=Path), help="Write every rejection to this file, JSON lines.")
@json_option
@located
def ingest(
    source: str,
    mapping: str,
    limit: int | None,
    follow: bool,
    rejections: Path | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Bring a file, a topic of yours or standard input (-) to the input topics.

    User ids become aliases on the way, and identifiers are sealed. What cannot be mapped is counted and told with
    its line and reason. The same input twice is the same events.

    \b
    Examples:
      lineage ingest events.jsonl --mapping jsonl
      lineage ingest app-events --mapping our-topic.yaml --follow
    """
    document = load_mapping(mapping)
    stop = Event()
    if follow:
        set_by_signals(stop, signal.SIGTERM, signal.SIGINT)
    with contextlib.ExitStack() as open_files:
        told: TextIO | None = None
        if rejections is not None:
            told = open_files.enter_context(rejections.open("w", encoding="utf-8"))
        answer = _ingest(settings, source, document, limit=limit, follow=follow, stop=stop.is_set, rejections=told)
    if as_json:
        write_json(answer)
        return
    sent = ", ".join(f"{count:,} to {topic}" for topic, count in answer["produced"].items()) or "nothing"
    say(f"{answer['read']:,} read, {answer['mapped']:,} mapped, {answer['rejected']:,} rejected; produced {sent}")
    for reason, count in list(answer["rejected_by_reason"].items())[:_SHOWN_REASONS]:
        first = next((r["line"] for r in answer["rejections"] if r["reason"] == reason), None)
        where = f", first on line {first}" if first is not None else ""
        say(f"  rejected {count:,}: {reason}{where}")


def ingest_file(settings: Settings, file: Path, mapping: str = "jsonl") -> dict[str, Any]:
    """The answer of `lineage ingest` for a whole file, with progress."""
    return _ingest(settings, str(file), load_mapping(mapping))


def _ingest(settings: Settings, source: str, mapping: Mapping, **how: Any) -> dict[str, Any]:
    line = ProgressLine()

    def progress(tally: Tally) -> None:
        line.show(f"{tally.read:,} read, {tally.mapped:,} mapped, {tally.rejected:,} rejected")

    with lineage_producer(settings) as producer:
        answer = run_ingest(source, mapping, producer, progress, **how)
    line.clear()
    return answer


def lineage_producer(settings: Settings) -> LineageProducer:
    """A producer client as the settings say. Raises `SettingsError`, `ValueError`."""
    kafka = settings.kafka()
    return LineageProducer(
        kafka.bootstrap,
        settings.pepper(),
        settings.controller_public_key(),
        settings.registry(),
        config=kafka.config,
    )
