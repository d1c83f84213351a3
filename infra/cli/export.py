"""`lineage export`: a person's lineage in the formats that others read."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from infra.audit_client import AuditClient, pieces
from infra.cli.audit import instant
from infra.cli.options import json_option, say, write_json
from infra.cli.over_api import looks_at_people

# The keys of audit.exports.export.FORMATS, told here so that `--help` need not load them.
FORMATS = ("csv", "parquet", "prov-json", "dpv-jsonld", "iso27560", "report-html", "report-json")
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("user")
@click.option("--format", "format_", type=click.Choice(FORMATS), required=True, help="What to write.")
@click.option("--output", type=_FILE, help="Write to this file instead of standard output.")
@click.option("--as-of", metavar="T", help="Only what occurred until then, e.g. 2026-03-01T08:00:00Z.")
@click.option("--policy-version", type=int, metavar="N", help="As judged had this version been in force all the time.")
@click.option("--all-revisions", is_flag=True, help="Every verdict an event ever had (csv and parquet).")
@json_option
@looks_at_people
def export(
    user: str,
    format_: str,
    output: Path | None,
    as_of: str | None,
    policy_version: int | None,
    all_revisions: bool,
    as_json: bool,
    api: AuditClient,
) -> None:
    """Export one person's lineage: as a table, as provenance, as consent records, or as the report that they may ask
    for.

    USER is the user id as your app knows it; it stands in no export. Who runs the app is told by operator.yaml in the
    data directory of the audit API (docs/exports.md). The look is recorded, with its reason (docs/audit-api.md).
    --json, with --output, tells what was written.

    \b
    Examples:
      lineage export u-000017 --format report-html --output report.html --reason "case 4711"
      lineage export u-000017 --format prov-json --as-of 2026-03-01T08:00:00Z > lineage.prov.json
    """
    if all_revisions and (policy_version is not None or format_ not in ("csv", "parquet")):
        raise click.ClickException("--all-revisions is for csv and parquet as stored, without --policy-version")
    if as_json and output is None:
        raise click.ClickException("--json tells what was written to --output FILE: name the file")
    if output is None and sys.stdout.isatty() and format_ == "parquet":
        raise click.ClickException("Parquet is not for a terminal: name a file with --output")
    asked = {"user": user, "format": format_, "as_of": instant(as_of), "policy_version": policy_version}
    with api.asked("POST", "/subjects/export", body=asked | {"all_revisions": all_revisions}, accept="*/*") as answer:
        subject, events = answer.headers.get("X-Subject"), int(answer.headers.get("X-Events", 0))
        media_type = answer.headers["Content-Type"]
        if subject is None:
            say("no such person is known here: never seen, not loaded yet (lineage wait), or erased; it is empty")
        if output is None:
            for piece in pieces(answer):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        written = _write(output, pieces(answer))
    if as_json:
        told = {"subject": subject, "events": events, "format": format_}
        write_json(told | {"file": str(output), "media_type": media_type, "bytes": written})
    else:
        say(f"written to {output}: {events:,} events, {written:,} bytes")


def _write(path: Path, content: Iterable[bytes]) -> int:
    """Whole or not at all; readable for you only, as it is about a person. The bytes written."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    written = 0
    try:
        with draft.open("wb") as file:
            for piece in content:
                written += file.write(piece)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    draft.rename(path)
    return written
