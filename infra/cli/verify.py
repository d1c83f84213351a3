"""`lineage verify`: every verdict in ClickHouse recomputed from the log, by a judge of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

import click

from audit.independent_judge import Reference
from audit.verify import Verification
from audit.verify import verify as verify_all
from infra.cli.audit import clickhouse
from infra.cli.options import ProgressLine, json_option, located, say, table, write_json
from infra.settings import Settings


@click.command()
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(0), help="Differences to show (not --json)."
)
@json_option
@located
def verify(limit: int, as_json: bool, settings: Settings) -> None:
    """Recompute every verdict from the log and compare it with what ClickHouse holds.

    Reads the log, the policies and the recipients from their beginning and judges each event with all facts known, by
    code that shares nothing with the tagger's. Names each event whose verdict, clauses or legal basis differ, and those
    that only one side has. Exit code 1 on any. Run `lineage wait` first: what is still on its way differs, too.

    Example: lineage wait && lineage verify --json
    """
    started = time.monotonic()
    found = verify_everything(settings)
    seconds = time.monotonic() - started
    if as_json:
        write_json(answer(found) | {"seconds": round(seconds, 3)})
    else:
        for line in lines(found, limit):
            click.echo(line)
        say(f"{seconds:.1f} s, {found.checked / max(seconds, 1e-9):,.0f} events a second")
    if found.differences:
        sys.exit(1)


def verify_everything(settings: Settings) -> Verification:
    """Verifies the log and the table that the settings name; progress on standard error."""
    from sinks.clickhouse.verdicts import StoredVerdicts
    from streams.log_reader import LogReader
    from streams.publishing import published_policies, published_recipients

    kafka, registry = settings.kafka(), settings.registry()
    log = LogReader(kafka, registry)
    reference = Reference(published_policies(kafka, registry), published_recipients(kafka, registry))
    line = ProgressLine()
    with clickhouse(settings) as client:
        try:
            return verify_all(log, StoredVerdicts(client), reference, lambda n: line.show(f"{n:,} records judged anew"))
        finally:
            line.clear()
            log.close()


def answer(found: Verification) -> dict[str, Any]:
    """The answer of `lineage verify` (docs/verify.md)."""
    return {
        "checked": found.checked,
        "different": len(found.differences),
        "differences": [difference.as_json() for difference in found.differences],
    }


def lines(found: Verification, limit: int) -> Iterable[str]:
    """Lines for people."""
    if not found.differences:
        yield f"{found.checked:,} events checked, no differences"
        return
    yield f"{found.checked:,} events checked, {len(found.differences):,} differ"
    rows = [
        [str(one.event_id), one.reason, _words(one.stored), _words(one.recomputed)] for one in found.differences[:limit]
    ]
    yield from table(rows, ["event", "what differs", "stored", "recomputed"])


def _words(told: Any) -> str:
    return "-" if told is None else f"{told.verdict} {' '.join(told.clauses)} ({told.legal_basis})"
