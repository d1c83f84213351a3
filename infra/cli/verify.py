"""`lineage verify`: the log against its seals, ClickHouse against the log and the topics, every verdict judged anew."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.independent_judge import Reference
from audit.verify import Verification
from audit.verify import verify as verify_all
from infra.cli.options import ProgressLine, clickhouse, json_option, located, say, table, write_json
from infra.cli.verify_tables import check_tables, differing, plain, tables_answer, tables_lines
from infra.settings import Settings, SettingsError

if TYPE_CHECKING:
    from audit.projection_check import ProjectionCheck
    from audit.row_check import RowCheck
    from audit.seal_check import Head, LogCheck

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.option("--tampering", is_flag=True, help="Seals, rows and tables only; judge nothing anew.")
@click.option("--seals-key", type=_FILE, help="Public key(s) in PEM to trust, instead of the data directory's.")
@click.option("--since-heads", type=_FILE, help="What --head printed earlier: today's chains must contain it.")
@click.option("--head", is_flag=True, help="Check the seals alone and print where each chain ends, as JSON.")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(0), help="Differences to show (not --json)."
)
@json_option
@located
def verify(
    tampering: bool,
    seals_key: Path | None,
    since_heads: Path | None,
    head: bool,
    limit: int,
    as_json: bool,
    settings: Settings,
) -> None:
    """Check that nothing was tampered with, and that every verdict is right.

    The log is compared with the signed chain of its seals; every row of ClickHouse with the log, in all columns;
    whom aliases stand for, and how erasure requests stand, with the topics that tell it; and every verdict with the one
    that a judge of its own gives, who knows all facts. Names each record, row and event that differs. Exit code 1 on
    any. Run `lineage wait` first: verdicts that are still on their way differ, too.

    \b
    Examples:
      lineage wait && lineage verify
      lineage verify --tampering --json
      lineage verify --head > heads.json       keep it where nobody here can change it
      lineage verify --since-heads heads.json --seals-key seal-public.pem
    """
    started = time.monotonic()
    trusted, earlier = _trusted(settings, seals_key), _heads(since_heads)
    if head:
        _tell_heads(settings, trusted, earlier)
        return
    log, rows, tables = look_for_tampering(settings, trusted, earlier)
    found = None if tampering else verify_everything(settings)
    seconds = time.monotonic() - started
    if as_json:
        told = {} if found is None else answer(found)
        told |= {"log": log_answer(log), "rows": rows_answer(rows), "tables": tables_answer(tables)}
        write_json(told | {"seconds": round(seconds, 3)})
    else:
        judged = [] if found is None else lines(found, limit)
        for line in [*log_lines(log, limit), *rows_lines(rows, limit), *tables_lines(tables, limit), *judged]:
            click.echo(line)
        say(f"{seconds:.1f} s, {log.records / max(seconds, 1e-9):,.0f} records a second")
    if log.differences or rows.different or differing(tables) or (found is not None and found.differences):
        sys.exit(1)


def look_for_tampering(
    settings: Settings, trusted: list[Ed25519PublicKey], earlier: Mapping[int, Head] | None = None
) -> tuple[LogCheck, RowCheck, list[ProjectionCheck]]:
    """The log against its seals, the table `lineage` against the log, and the tables that are projected from topics
    against these; progress on standard error."""
    from audit.row_check import check_rows
    from audit.seal_check import check_log
    from sinks.clickhouse.stored_rows import StoredRows
    from streams.sealed_log import SealedLog

    line = ProgressLine()
    sealed = SealedLog(settings.kafka(), settings.registry())
    try:
        log = check_log(sealed, trusted, earlier, _shown(line, "records compared with their seals"))
        with clickhouse(settings) as client:
            rows = check_rows(
                sealed,
                StoredRows(client),
                log.markers,
                log.sealed_to,
                _shown(line, "records compared with their rows"),
            )
            tables = check_tables(settings, client, rows.purged, lambda name, n: line.show(f"{n:,} rows of {name}"))
    finally:
        line.clear()
    return log, rows, tables


def _shown(line: ProgressLine, what: str) -> Callable[[int], None]:
    return lambda n: line.show(f"{n:,} {what}")


def verify_everything(settings: Settings) -> Verification:
    """Verifies the verdicts of the log and the table that the settings name; progress on standard error."""
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


def _trusted(settings: Settings, file: Path | None) -> list[Ed25519PublicKey]:
    from processors.seals import load_trusted_keys

    pem = settings.seal_public_keys() if file is None else file.read_bytes()
    try:
        return load_trusted_keys(pem)
    except ValueError as error:
        raise SettingsError(f"{file or 'seal-public.pem'}: {error}") from None


def _heads(file: Path | None) -> dict[int, Head] | None:
    from audit.seal_check import Head

    if file is None:
        return None
    try:
        return {
            int(partition): Head(int(head["number"]), int(head["end"]), str(head["hash"]))
            for partition, head in orjson.loads(file.read_bytes())["heads"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise click.UsageError(f"{file} is not what `lineage verify --head` prints") from None


def _tell_heads(settings: Settings, trusted: list[Ed25519PublicKey], earlier: Mapping[int, Head] | None) -> None:
    from audit.seal_check import check_chains
    from streams.sealed_log import SealedLog

    found = check_chains(SealedLog(settings.kafka(), settings.registry()), trusted, earlier)
    if found.differences:
        for line in log_lines(found, len(found.differences)):
            say(line)
        sys.exit(1)
    write_json({"heads": _heads_answer(found)})


def _heads_answer(found: LogCheck) -> dict[str, Any]:
    return {str(partition): head._asdict() for partition, head in sorted(found.heads.items())}


def answer(found: Verification) -> dict[str, Any]:
    """What `lineage verify` answers about verdicts (docs/verify.md)."""
    return {
        "checked": found.checked,
        "different": len(found.differences),
        "differences": [difference.as_json() for difference in found.differences],
    }


def log_answer(found: LogCheck) -> dict[str, Any]:
    """What it answers about the log and its seals."""
    return {
        "records": found.records,
        "sealed": found.sealed,
        "seals": found.seals,
        "heads": _heads_answer(found),
        "different": len(found.differences),
        "differences": [difference._asdict() for difference in found.differences],
    }


def rows_answer(found: RowCheck) -> dict[str, Any]:
    """What it answers about the rows of ClickHouse."""
    return {
        "checked": found.checked,
        "erased": found.erased,
        "waiting": found.waiting,
        "uncertified": found.uncertified,
        "different": found.different.total(),
        "by_kind": dict(found.different),
        "differences": [
            {
                "kind": one.kind,
                "event_id": None if one.event_id is None else str(one.event_id),
                "partition": one.partition,
                "offset": one.offset,
                "columns": {
                    name: {"stored": plain(stored), "log": plain(told)} for name, (stored, told) in one.columns.items()
                },
            }
            for one in found.differences
        ],
    }


def log_lines(found: LogCheck, limit: int) -> Iterable[str]:
    """Lines for people."""
    unsealed = f", {found.records - found.sealed:,} not sealed" if found.records > found.sealed else ""
    said = "no differences" if not found.differences else f"{len(found.differences):,} differences"
    yield f"log:      {found.sealed:,} records under {found.seals:,} seals{unsealed}; {said}"
    if found.differences[:limit]:
        rows = [
            [str(d.partition), f"{d.start}-{d.end - 1}", "-" if d.seal is None else str(d.seal), d.reason, d.text]
            for d in found.differences[:limit]
        ]
        yield from table(rows, ["partition", "offsets", "seal", "what differs", ""])


def rows_lines(found: RowCheck, limit: int) -> Iterable[str]:
    """Lines for people."""
    more = [f"{found.erased:,} of erased people"] if found.erased else []
    more += [f"{found.waiting:,} not loaded yet"] if found.waiting else []
    more += [f"{found.uncertified:,} people said to be erased, without evidence"] if found.uncertified else []
    kinds = [f"{n:,} {kind}" for kind, n in found.different.items()]
    yield "; ".join([f"rows:     {found.checked:,} compared with the log", *more, ", ".join(kinds) or "no differences"])
    if found.differences[:limit]:
        rows = [
            [str(one.event_id or "-"), f"{one.partition}/{one.offset}", one.kind, _changes(one.columns)]
            for one in found.differences[:limit]
        ]
        yield from table(rows, ["event", "place in the log", "what", "in the table, and in the log"])


def _changes(columns: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name}: {plain(stored)} ≠ {plain(told)}" for name, (stored, told) in columns.items()) or "-"


def lines(found: Verification, limit: int) -> Iterable[str]:
    """Lines for people."""
    if not found.differences:
        yield f"verdicts: {found.checked:,} events checked, no differences"
        return
    yield f"verdicts: {found.checked:,} events checked, {len(found.differences):,} differ"
    rows = [
        [str(one.event_id), one.reason, _words(one.stored), _words(one.recomputed)] for one in found.differences[:limit]
    ]
    yield from table(rows, ["event", "what differs", "stored", "recomputed"])


def _words(told: Any) -> str:
    return "-" if told is None else f"{told.verdict} {' '.join(told.clauses)} ({told.legal_basis})"
