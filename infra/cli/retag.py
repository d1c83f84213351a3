"""`lineage retag`: what would change under another policy or registry; then as new revisions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.cli.options import ProgressLine, clickhouse, json_option, located, say, table, write_json
from infra.settings import Settings

if TYPE_CHECKING:
    from streams.retag import Comparison

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--policy", "policies", type=_FILE, multiple=True, help="A policy, in place of its published version.")
@click.option("--recipients", "registered", type=_FILE, multiple=True, help="Recipients, in place of their entries.")
@click.option("--from", "since", metavar="T", help="Only events from this time on, e.g. 2026-03-01T00:00:00Z.")
@click.option("--to", "until", metavar="T", help="Only events before this time.")
@click.option("--dry-run", is_flag=True, help="Only tell what would change.")
@json_option
@located
def retag(
    policies: tuple[Path, ...],
    registered: tuple[Path, ...],
    since: str | None,
    until: str | None,
    dry_run: bool,
    as_json: bool,
    settings: Settings,
) -> None:
    """Judge loaded events again as though these documents had been published from the start, and compare.

    A document takes the place of the published version (recipients: of the entry with the same effective_at), or is
    one more; from its effective_at on it is in force. With --dry-run nothing changes. Without it the documents must
    be published, as a verdict that counts rests on what is published; then everything is judged again, and what
    comes out otherwise gets a new revision.

    \b
    Examples:
      lineage retag --policy draft.yaml --dry-run
      lineage policy publish draft.yaml && lineage retag --policy draft.yaml
    """
    from sinks.clickhouse.judged import BEGINNING, END_OF_TIME, Scope
    from streams.policies import load_policy, load_recipients, policy_record, recipient_records
    from streams.reference_data import ReferenceData
    from streams.retag import compare, sweep_again, with_documents

    if not policies and not registered:
        raise click.UsageError("give --policy FILE or --recipients FILE")
    scope = Scope(since=_time(since, BEGINNING), until=_time(until, END_OF_TIME))
    new_policies = [policy_record(load_policy(path)) for path in policies]
    new_entries = [record for path in registered for record in recipient_records(load_recipients(path))]
    kafka = settings.kafka()
    reference = ReferenceData(kafka, settings.registry())
    try:
        published = reference.read_to_end()
    finally:
        reference.close()
    knowledge = with_documents(published, new_policies, new_entries)
    is_published = (knowledge.policies, knowledge.recipients) == (published.policies, published.recipients)
    if not dry_run and not is_published:
        raise click.ClickException(
            "these documents are not what is published, so no verdict can rest on them: lineage policy publish FILE "
            "(or lineage recipients publish FILE), or see what would change with --dry-run"
        )
    line = ProgressLine()
    with clickhouse(settings) as client:
        try:
            found = compare(kafka, client, knowledge, scope, lambda n: line.show(f"{n:,} events judged again"))
        finally:
            line.clear()
    if not dry_run:
        from infra.cli.stack import wait_for

        sweep_again(kafka)
        wait_for(settings, 3600)
    if as_json:
        write_json(_answer(found, dry_run))
        return
    for text in _lines(found):
        click.echo(text)
    if not dry_run:
        say("judged again; what came out otherwise has a new revision")


def _time(text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.ClickException(f"{text!r} is no time: write it as 2026-03-01T00:00:00Z") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _answer(found: Comparison, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "events": found.events,
        "changed": found.changed,
        "by_verdict": dict(zip(("before", "after"), map(dict, found.verdicts), strict=True)),
        "by_clause": dict(zip(("before", "after"), map(dict, found.clauses), strict=True)),
        "examples": found.examples,
    }


def _lines(found: Comparison) -> Iterable[str]:
    yield f"{found.events:,} events judged again, {found.changed:,} with another answer"
    for title, (before, after) in (("verdict", found.verdicts), ("clause", found.clauses)):
        values = sorted(before.keys() | after.keys())
        rows = [[v, f"{before[v]:,}", f"{after[v]:,}", f"{after[v] - before[v]:+,}"] for v in values]
        yield ""
        yield from table(rows, [title, "before", "after", "difference"])
    if found.examples:
        yield ""
        rows = [[one["event_id"], *(_words(one[side]) for side in ("before", "after"))] for one in found.examples]
        yield from table(rows, ["event", "before", "after"])


def _words(answer: dict[str, Any]) -> str:
    return f"{answer['verdict']} {' '.join(answer['clauses'])}"
