"""`lineage export`: a person's lineage in the formats that others read."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.cli.audit import clickhouse
from infra.cli.options import json_option, located, say, write_json
from infra.settings import Settings, SettingsError

if TYPE_CHECKING:
    from audit.exports.export import Export

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
@click.option("--operator", type=_FILE, help="Who runs the app (default: operator.yaml in the data directory).")
@json_option
@located
def export(
    user: str,
    format_: str,
    output: Path | None,
    as_of: str | None,
    policy_version: int | None,
    all_revisions: bool,
    operator: Path | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Export one person's lineage: as a table, as provenance, as consent records, or as the report that they may ask
    for.

    USER is the user id as your app knows it; it becomes an alias here and stands in no export. --json, with --output,
    tells what was written.

    \b
    Examples:
      lineage export u-000017 --format report-html --output report.html
      lineage export u-000017 --format prov-json --as-of 2026-03-01T08:00:00Z > lineage.prov.json
    """
    if all_revisions and (policy_version is not None or format_ not in ("csv", "parquet")):
        raise click.ClickException("--all-revisions is for csv and parquet as stored, without --policy-version")
    if as_json and output is None:
        raise click.ClickException("--json tells what was written to --output FILE: name the file")
    if output is None and sys.stdout.isatty() and format_ == "parquet":
        raise click.ClickException("Parquet is not for a terminal: name a file with --output")
    lineage, made = _export(settings, user, format_, as_of, policy_version, all_revisions, operator)
    if lineage["subject"] is None:
        say("no such person is known here: never seen, not loaded yet (lineage wait), or erased; the export is empty")
    if output is None:
        for piece in made.content:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    written = _write(output, made)
    if as_json:
        told = {"subject": lineage["subject"], "events": len(lineage["events"]), "format": format_}
        write_json(told | {"file": str(output), "media_type": made.media_type, "bytes": written})
    else:
        say(f"written to {output}: {len(lineage['events']):,} events, {written:,} bytes")


def _export(
    settings: Settings,
    user: str,
    format_: str,
    as_of: str | None,
    policy_version: int | None,
    all_revisions: bool,
    operator: Path | None,
) -> tuple[Mapping[str, Any], Export]:
    from audit.exports.export import export_lineage
    from audit.exports.gathering import background_of
    from audit.exports.under_policy import under_policy
    from audit.subject import subject_lineage
    from infra.operator import operator_of
    from processors.knowledge import Knowledge, Policy, Recipient
    from processors.pseudonyms import alias
    from streams.documents import parse_instant

    until = None if as_of is None else parse_instant(as_of)
    moment = None if until is None else datetime.fromtimestamp(until / 1000, UTC)
    who = operator_of(settings.data, operator)
    policies, recipients = _published(settings)
    knowledge = Knowledge(map(Policy.from_record, policies), map(Recipient.from_record, recipients))
    if policy_version is not None and policy_version not in knowledge.policies:
        known = ", ".join(str(version) for version in sorted(knowledge.policies)) or "none"
        raise click.ClickException(f"policy version {policy_version} was never published; published: {known}")
    pseudonym = alias(settings.pepper(), user)
    with clickhouse(settings) as client:
        lineage = subject_lineage(client, pseudonym, moment, all_revisions, knowledge if policies else None)
        now = round(time.time() * 1000)
        background = background_of(client, pseudonym, lineage, policies, recipients, who, now, until)
    if policy_version is not None:
        lineage = under_policy(lineage, knowledge, policy_version)
    return lineage, export_lineage(lineage, format_, background)


def _published(settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All policies and registry entries; none, and a word of it, where no Kafka is named."""
    from streams.publishing import published_policies, published_recipients

    try:
        kafka = settings.kafka()
    except SettingsError as error:
        say(f"without Kafka the export has no names of recipients, purposes or clauses ({error})")
        return [], []
    registry = settings.registry()
    return published_policies(kafka, registry), published_recipients(kafka, registry)


def _write(path: Path, made: Export) -> int:
    """Whole or not at all; readable for you only, as it is about a person. The bytes written."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    written = 0
    try:
        with draft.open("wb") as file:
            for piece in made.content:
                written += file.write(piece)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    draft.rename(path)
    return written
