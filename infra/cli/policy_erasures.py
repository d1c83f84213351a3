"""`lineage policy erasures`: how many people are due for an erasure that nobody asked for, by cause. Counts only."""

from __future__ import annotations

import click

from infra.cli.options import json_option, located, table, write_json
from infra.settings import Settings


@click.command()
@click.option("--policy", "file", metavar="FILE", help="As if this policy were in force, instead of what is published.")
@click.option("--at", metavar="T", help="As of then instead of now, e.g. 2026-03-01T08:00:00Z.")
@json_option
@located
def erasures(file: str | None, at: str | None, as_json: bool, settings: Settings) -> None:
    """Count the people for whom the policy opens an erasure request by itself, by cause and clause.

    They have no request yet; the job `erasures` opens theirs within a minute, for retention within a day. Nothing is
    changed here, so with --policy it tells beforehand whom a new section `erasure` would reach. A person may be due
    for several causes; they get one request.

    \b
    Examples:
      lineage policy erasures
      lineage policy erasures --policy our-next-policy.yaml --json
    """
    import time
    from dataclasses import replace
    from pathlib import Path

    from infra.cli.options import clickhouse
    from processors.knowledge import Knowledge, Policy, Recipient
    from streams.documents import format_instant, parse_instant
    from streams.policies import load_policy, policy_record
    from streams.publishing import published_policies, published_recipients
    from streams.workflows.births import due_now

    now = int(time.time() * 1000) if at is None else parse_instant(at)
    kafka, registry = settings.kafka(), settings.registry()
    if file is None:
        policies = [Policy.from_record(record) for record in published_policies(kafka, registry)]
    else:
        policies = [replace(Policy.from_record(policy_record(load_policy(Path(file)))), effective_at=now)]
    knowledge = Knowledge(policies, map(Recipient.from_record, published_recipients(kafka, registry)))
    with clickhouse(settings) as client:
        due = due_now(client, knowledge, now)
    policy = knowledge.view(knowledge.epoch(now)).policy
    version = None if policy is None else policy.version
    if as_json:
        counts = [{"cause": cause, "clause": clause, "people": people} for cause, clause, people in due]
        write_json({"at": format_instant(now), "policy_version": version, "due": counts})
        return
    if not due:
        what = "no policy is in force" if version is None else f"policy {version} names no cause"
        click.echo(f"{what}: no erasure request opens by itself (docs/policy.md, `erasure`)")
        return
    for line in table(
        [[cause, clause, f"{people:,}"] for cause, clause, people in due], ["cause", "clause", "people due"]
    ):
        click.echo(line)
