"""`lineage policy …` and `lineage recipients …`: the documents that verdicts rest on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from infra.cli.options import json_option, located, say, table, write_json
from infra.cli.policy_erasures import erasures
from infra.cli.policy_review import coverage, diff, diff_of_recipients, lint
from infra.cli.simulated_recipients import simulate_recipients
from infra.cli.vendors import import_gvl
from infra.settings import Settings
from streams.documents import describe_problem, format_instant
from streams.policies import (
    lint_policy,
    lint_recipients,
    load_policy,
    load_recipients,
    policy_document,
    policy_record,
    recipient_records,
    recipients_document,
)
from streams.publishing import (
    Published,
    publish_policies,
    publish_recipients,
    published_policies,
    published_recipients,
)

_FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.group()
def policy() -> None:
    """Publish, show, list, check and compare policies; count whom they erase unasked.

    Example: lineage policy publish our-policy.yaml
    """


@policy.command("publish")
@_FILES
@json_option
@located
def publish_policy(files: Sequence[Path], as_json: bool, settings: Settings) -> None:
    """Check policies and publish them. A version that is published never changes any more.

    Example: lineage policy publish schemas/policies/examples/aoxun-v2.yaml
    """
    documents = [load_policy(path) for path in files]
    for document in documents:
        for problem in lint_policy(document):
            say(f"note: {describe_problem(document.name, problem)}")
    records = [policy_record(document) for document in documents]
    _tell(publish_policies(settings.kafka(), records, settings.registry()), "version", as_json)


@policy.command("list")
@json_option
@located
def list_policies(as_json: bool, settings: Settings) -> None:
    """List the published versions.

    Example: lineage policy list
    """
    records = published_policies(settings.kafka(), settings.registry())
    if as_json:
        write_json({"policies": [_policy_line(record) for record in records]})
        return
    rows = [[str(r["version"]), format_instant(r["effective_at"]), str(len(r["purposes"])), r["name"]] for r in records]
    for line in table(rows, ["version", "effective at", "purposes", "name"]):
        click.echo(line)


def _policy_line(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": record["version"],
        "effective_at": format_instant(record["effective_at"]),
        "name": record["name"],
        "purposes": sorted(record["purposes"]),
    }


@policy.command("show")
@click.argument("version", type=int, required=False)
@json_option
@located
def show_policy(version: int | None, as_json: bool, settings: Settings) -> None:
    """Show a published policy as a document; without VERSION the newest one.

    Example: lineage policy show 1
    """
    records = published_policies(settings.kafka(), settings.registry())
    chosen = [record for record in records if version is None or record["version"] == version]
    if not chosen:
        known = ", ".join(str(record["version"]) for record in records) or "none"
        raise click.ClickException(f"version {version or ''} is not published; there is: {known}")
    document = policy_document(chosen[-1])
    if as_json:
        write_json(document)
        return
    import yaml

    click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


@click.group()
def recipients() -> None:
    """Publish, list and compare recipients.

    Example: lineage recipients publish our-recipients.yaml
    """


@recipients.command("publish")
@_FILES
@json_option
@located
def publish_recipient(files: Sequence[Path], as_json: bool, settings: Settings) -> None:
    """Check recipients and publish them. A change is a new entry with a later effective_at.

    Example: lineage recipients publish schemas/policies/recipients-example.yaml
    """
    documents = [load_recipients(path) for path in files]
    for document in documents:
        for problem in lint_recipients(document):
            say(f"note: {describe_problem(document.name, problem)}")
    records = [record for document in documents for record in recipient_records(document)]
    _tell(publish_recipients(settings.kafka(), records, settings.registry()), "entry", as_json)


@recipients.command("list")
@json_option
@located
def list_recipients(as_json: bool, settings: Settings) -> None:
    """List the published recipients, every entry of each.

    Example: lineage recipients list --json
    """
    records = published_recipients(settings.kafka(), settings.registry())
    if as_json:
        write_json(recipients_document(records))
        return
    rows = [
        [
            record["id"],
            record["kind"],
            format_instant(record["effective_at"]),
            record["country"] or "-",
            ", ".join(record["purposes"]) or "-",
            record["name"],
        ]
        for record in records
    ]
    for line in table(rows, ["id", "kind", "effective at", "country", "purposes", "name"]):
        click.echo(line)


def _tell(published: Published, what: str, as_json: bool) -> None:
    if as_json:
        write_json({"published": published.new, "unchanged": published.unchanged})
        return
    for key in published.new:
        say(f"published {what} {key}")
    if published.unchanged:
        say(f"unchanged: {what} {', '.join(published.unchanged)}")
    sys.stderr.flush()


policy.add_command(lint)
policy.add_command(diff)
policy.add_command(coverage)
policy.add_command(erasures)
recipients.add_command(diff_of_recipients)
recipients.add_command(import_gvl)
recipients.add_command(simulate_recipients)
