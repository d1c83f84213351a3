"""`lineage simulate`: invented people, to a file or straight into the topics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

from infra.cli.ingest import lineage_producer
from infra.cli.options import ProgressLine, json_option, located, say, write_json
from infra.settings import Settings
from infra.simulator import simulate as run_simulator
from infra.simulator import write_jsonl
from schemas import schema_dir
from streams.documents import parse_instant
from streams.policies import load_policy, load_recipients, policy_record, recipient_records
from streams.publishing import published_policies, published_recipients
from streams.sources.mapping import Position, Rejection, load_mapping

# Two months before the invented amendment of the policy takes effect.
START = "2026-03-01T00:00:00Z"
_BATCH = 5_000


@click.command()
@click.option("--people", default=1000, show_default=True, type=click.IntRange(1))
@click.option("--months", default=3.0, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--seed", default=7, show_default=True, help="The same arguments give the same events.")
@click.option("--start", default=START, show_default=True, metavar="T", help="First day.")
@click.option("--events-per-person", default=130.0, show_default=True)
@click.option("--fault-rate", default=0.04, show_default=True, help="Share of events that break the policy.")
@click.option("--duplicate-rate", default=0.004, show_default=True, help="Share of events that come twice.")
@click.option(
    "--offline-rate", default=0.03, show_default=True, help="Share of sessions that arrive hours or days late."
)
@click.option("--poison-rate", default=0.0, show_default=True, help="Share of rows that no mapping can take.")
@click.option("--policy", "policies", multiple=True, type=click.Path(path_type=Path), help="Else those published.")
@click.option("--recipients", multiple=True, type=click.Path(path_type=Path), help="Else those published.")
@click.option("--out", metavar="FILE|-", help="Write JSON lines there; without it events go into the topics.")
@json_option
@located
def simulate(
    people: int,
    months: float,
    seed: int,
    start: str,
    policies: tuple[Path, ...],
    recipients: tuple[Path, ...],
    out: str | None,
    as_json: bool,
    settings: Settings,
    **rates: float,
) -> None:
    """Invent people and what is collected of them, what they consent to and with whom it is shared.

    Written to a file, without --policy and --recipients, the events follow the policy and the recipients that ship
    as examples. Nobody in them exists.

    \b
    Examples:
      lineage simulate --people 3000 --months 4 --seed 7 --out events.jsonl
      lineage simulate --people 500
    """
    first = parse_instant(start)
    if out is not None:
        example = schema_dir() / "policies"
        in_force = [policy_record(load_policy(path)) for path in policies or (example / "aoxun.yaml",)]
        registered = _recipients(recipients or (example / "recipients-example.yaml",))
    else:
        kafka = settings.kafka()
        in_force = [policy_record(load_policy(path)) for path in policies]
        in_force = in_force or published_policies(kafka, settings.registry())
        registered = _recipients(recipients) or published_recipients(kafka, settings.registry())
    if not registered:
        raise click.ClickException(
            "no recipients are published, so nothing could be shared: lineage recipients publish FILE, or --recipients"
        )
    events = run_simulator(people, months, seed, first, in_force, registered, **rates)
    answer: dict[str, Any]
    if out is None:
        answer = send(events, settings)
    else:
        line = ProgressLine()
        with click.open_file(out, "wb") as file:
            answer = {"events": write_jsonl(_counted(events, line), file)}
        line.clear()
    if as_json and out != "-":
        write_json(answer)
    else:
        say(f"{answer['events']:,} events of {people:,} people")


def send(events: Iterable[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Events straight into the input topics: `events`, `rejected`, and `produced` by topic."""
    mapper = load_mapping("jsonl").compile(settings.pepper())
    line = ProgressLine()
    count = rejected = 0
    with lineage_producer(settings) as producer:
        producer.check_topics()
        numbered = enumerate(_counted(events, line), 1)
        while batch := list(islice(numbered, _BATCH)):
            mapped = []
            for number, event in batch:
                found = mapper.map_row(event, Position(number))
                if isinstance(found, Rejection):
                    rejected += 1
                else:
                    mapped += found
            producer.write(mapped)
            count += len(batch)
        produced = producer.flush()
    line.clear()
    return {"events": count, "rejected": rejected, "produced": produced}


def _recipients(paths: Iterable[Path]) -> list[dict[str, Any]]:
    return [record for path in paths for record in recipient_records(load_recipients(path))]


def _counted(events: Iterable[dict[str, Any]], line: ProgressLine) -> Iterator[dict[str, Any]]:
    for count, event in enumerate(events, 1):
        if count % 2000 == 0:
            line.show(f"{count:,} events")
        yield event
