"""`lineage demo`: the whole pipeline on this machine, on a stack of its own, from simulated people to their lineage."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from infra.audit_client import TOKEN_FILE
from infra.cli.audit import lineage_of, lineage_table, summary, totals_lines
from infra.cli.demo_erasure import erase, show_erasure, simulated_recipients
from infra.cli.ingest import ingest_file
from infra.cli.options import ProgressLine, json_option, located, say, write_json
from infra.cli.over_api import client
from infra.cli.simulate import START
from infra.cli.stack import wait_for
from infra.local.state import read_state
from infra.settings import Settings
from infra.simulator import Event, write_jsonl
from infra.simulator import simulate as run_simulator
from schemas import schema_dir
from streams.documents import parse_instant
from streams.policies import load_policy, load_recipients, policy_record, recipient_records

_LOOKED_AT = 60
# Lines of one person's story that are worth reading, and still read.
_FEW, _MANY = 16, 40


@click.command()
@click.option("--people", default=3000, show_default=True, type=click.IntRange(1))
@click.option("--months", default=4.0, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option("--seed", default=7, show_default=True, help="The same arguments give the same people.")
@click.option("--keep", is_flag=True, help="Leave the stack running and its data in place, to look around.")
@json_option
@located
def demo(people: int, months: float, seed: int, keep: bool, as_json: bool, settings: Settings) -> None:
    """Start a stack of its own, simulate people, run them through, show one person's lineage and the totals, erase that
    person at every recipient and here, stop.

    In a temporary directory that is removed at the end; with --data or --keep in a directory that stays.

    Example: lineage demo --people 3000 --months 4 --seed 7
    """
    began = time.monotonic()
    given = click.get_current_context().params.get("data") is not None
    folder = settings.data if given else Path(tempfile.mkdtemp(prefix="lineage-demo-"))
    # Nothing of another cluster: the demo never writes into what is yours.
    own = replace(
        settings,
        data=folder,
        kafka_bootstrap=None,
        clickhouse_url=None,
        api_url=None,
        api_token_file=None,
        secret_files={},
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        answer = _run(own, people, months, seed, as_json)
    except BaseException:
        # Its logs are all that is left to find out why.
        _lineage(own, "down")
        raise
    if not keep:
        with step("stop everything"):
            _lineage(own, "down")
        if not given:
            shutil.rmtree(folder)
    seconds = time.monotonic() - began
    if as_json:
        write_json(answer | {"seconds": round(seconds, 1)})
        return
    say(f"done in {seconds:.0f} s")
    if keep:
        state = read_state(folder)
        pages = f"http://{state.api}/" if state is not None else "down"
        say(f"the stack runs on (lineage down --data {folder}): pages at {pages}, sign in with the token in")
        say(str(folder / "secrets" / TOKEN_FILE))


def _run(settings: Settings, people: int, months: float, seed: int, quiet: bool) -> dict[str, Any]:
    policies = schema_dir() / "policies"
    documents = [policies / "aoxun.yaml", policies / "examples" / "aoxun-v2.yaml"]
    registry = policies / "recipients-example.yaml"
    with step("start Apache Kafka, ClickHouse, tagger, loader; publish two versions of the policy, and recipients"):
        given = [argument for path in documents for argument in ("--policy", str(path))]
        _lineage(settings, "up", "--background", *given, "--recipients", str(registry))
    file = settings.data / "simulated.jsonl"
    with step(f"simulate {people:,} people for {months:g} months"):
        candidates = _simulate(file, people, months, seed, documents, registry)
    with step("bring the file into the input topics (lineage ingest simulated.jsonl --mapping jsonl)"):
        ingested = ingest_file(settings, file)
        say(f"   {ingested['read']:,} read, {ingested['rejected']:,} rejected")
    with step("wait until every event is judged and loaded (lineage wait)"):
        wait_for(settings, 120)
    with step("ask for one person's lineage, and for the totals"):
        person, lineage = _most_telling(settings, candidates)
        counted = client(settings).get("/totals")
    with step("erase this person, at every recipient and here (lineage erase --wait)"), simulated_recipients(settings):
        erased = erase(settings, person)
    answer = {"user": person, "subject": lineage, "totals": counted, "ingested": ingested, "erased": erased}
    if quiet:
        return answer
    click.echo(f"\n$ lineage subject {person}")
    click.echo(f"subject {lineage['subject']}: {summary(lineage['events'])}")
    for line in lineage_table(lineage["events"]):
        click.echo(line)
    click.echo("\n$ lineage totals")
    for line in totals_lines(counted):
        click.echo(line)
    show_erasure(settings, person, erased)
    click.echo()
    return answer


def _simulate(
    file: Path, people: int, months: float, seed: int, documents: Sequence[Path], registry: Path
) -> list[str]:
    """Writes the events; user ids of people with a withdrawal, an onward disclosure and a story of readable length."""
    records = [policy_record(load_policy(path)) for path in documents]
    recipients = recipient_records(load_recipients(registry))
    withdrew: set[str] = set()
    passed_on: set[str] = set()
    events_of: Counter[str] = Counter()
    line = ProgressLine()

    def observed() -> Iterator[Event]:
        events = run_simulator(people, months, seed, parse_instant(START), records, recipients)
        for count, event in enumerate(events, 1):
            user = event["user_id"]
            events_of[user] += 1
            if event.get("action") == "withdraw":
                withdrew.add(user)
            elif event.get("discloser", "self") != "self":
                passed_on.add(user)
            if count % 5000 == 0:
                line.show(f"   {count:,} events")
            yield event

    with file.open("wb") as out:
        count = write_jsonl(observed(), out)
    line.clear()
    say(f"   {count:,} events")
    # Who has most of a story comes first; of them, who has it in few lines.
    return sorted(
        events_of,
        key=lambda user: (
            user not in withdrew or user not in passed_on,
            not _FEW <= events_of[user] <= _MANY,
            events_of[user],
            user,
        ),
    )[:_LOOKED_AT]


def _most_telling(settings: Settings, candidates: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Of the candidates the one whose lineage has most to tell."""
    api = client(settings, "the demo looks for a story worth telling")
    best: tuple[tuple[bool, int], str, dict[str, Any]] | None = None
    for user in candidates:
        lineage = lineage_of(api, user)
        events = lineage["events"]
        told = {event["verdict"] for event in events} | {event["activity"] for event in events}
        told |= {f"onward {event['verdict']}" for event in events if (event["hop"] or 0) > 1}
        told |= {f"{event['activity']} {event['verdict']}" for event in events}
        rank = len(events) <= _MANY, len(told)
        if events and (best is None or rank > best[0]):
            best = rank, user, lineage
    if best is None:
        raise click.ClickException("no simulated person is in the table: lineage doctor")
    return best[1], best[2]


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Says what begins, and how long it took."""
    say(f"== {text}")
    began = time.monotonic()
    yield
    say(f"   {time.monotonic() - began:.1f} s")


def _lineage(settings: Settings, *arguments: str) -> None:
    """Runs the command itself on the demo's own parts, whatever the environment names."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LINEAGE_")}
    kept = {name: os.environ[name] for name in ("LINEAGE_MAVEN_REPOSITORY",) if name in os.environ}
    command = [sys.executable, "-m", "infra.cli.main", *arguments, "--data", str(settings.data)]
    done = subprocess.run(command, env=environment | kept, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise click.ClickException(f"lineage {arguments[0]} ended with exit code {done.returncode}")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
