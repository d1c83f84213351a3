"""`lineage subject`, `totals`, `judge`: what an auditor asks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import click

from infra.audit_client import NDJSON, AuditClient, entries
from infra.cli.options import counts, json_option, table, write_json, write_json_line
from infra.cli.over_api import looks_at_people, over_api


@click.command()
@click.argument("user")
@click.option("--as-of", metavar="T", help="Only what occurred until then, e.g. 2026-03-01T08:00:00Z.")
@click.option("--policy-version", type=int, metavar="N", help="As judged had this version been in force all the time.")
@click.option("--all-revisions", is_flag=True, help="Every verdict an event ever had, not only the one that counts.")
@click.option("--limit", type=click.IntRange(1), help="Show the last so many events only (not with --json).")
@json_option
@looks_at_people
def subject(
    user: str,
    as_of: str | None,
    policy_version: int | None,
    all_revisions: bool,
    limit: int | None,
    as_json: bool,
    api: AuditClient,
) -> None:
    """Show one person's lineage: when, what, why, who received it, on which basis, and whether it was lawful.

    USER is the user id as your app knows it; the audit API makes an alias of it, and it goes no further. The look is
    recorded, with its reason (docs/audit-api.md).

    \b
    Examples:
      lineage subject u-000017 --reason "case 4711"
      lineage subject u-000017 --as-of 2026-03-01T08:00:00Z --json
    """
    answer = lineage_of(api, user, instant(as_of), policy_version, all_revisions)
    if as_json:
        write_json(answer)
        return
    if answer["subject"] is None:
        click.echo("no such person is known here: never seen, not loaded yet (lineage wait), or erased")
        return
    events = answer["events"]
    click.echo(f"subject {answer['subject']}: {summary(events)}")
    for line in lineage_table(events[-limit:] if limit else events):
        click.echo(line)


def lineage_of(
    api: AuditClient,
    user: str,
    as_of: str | None = None,
    policy_version: int | None = None,
    all_revisions: bool = False,
) -> dict[str, Any]:
    """One person's lineage, as `lineage subject --json` has it. Raises `ApiRefused`."""
    asked = {"user": user, "as_of": as_of, "policy_version": policy_version, "all_revisions": all_revisions}
    with api.asked("POST", "/subjects/lineage", body=asked, accept=NDJSON) as answer:
        return {"subject": answer.headers.get("X-Subject"), "events": list(entries(answer))}


def instant(given: str | None) -> str | None:
    """A moment of an option, as the audit API takes it. Raises `ValueError`."""
    from streams.documents import format_instant, parse_instant

    return None if given is None else format_instant(parse_instant(given))


def summary(events: Iterable[Mapping[str, Any]]) -> str:
    """How many events, and how many of which verdict."""
    events = list(events)
    verdicts: dict[str, int] = {}
    for event in events:
        if event["verdict"] is not None:
            verdicts[event["verdict"]] = verdicts.get(event["verdict"], 0) + 1
    judged = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    return f"{len(events)} events" + (f" ({judged})" if judged else "")


def lineage_table(events: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Lines for people, consents in their place between what they allowed; why in full: `lineage explain`."""
    rows = [
        [
            f"{event['occurred_at'][:10]} {event['occurred_at'][11:19]}",
            event["activity"],
            _what(event),
            event["purpose"] or "-",
            _who(event),
            (event["legal_basis"] or "-").replace("_", " "),
            event["verdict"] or "-",
            " ".join(event["clauses"]),
            _evidence(event),
        ]
        for event in events
    ]
    return table(rows, ["when (UTC)", "activity", "what", "why", "who", "basis", "verdict", "clauses", "consents"])


def _evidence(event: Mapping[str, Any]) -> str:
    """Where a consent is: the beginning of its id; elsewhere those of the consents that the verdict rests on."""
    ids = [event["event_id"]] if event["activity"] == "consent" else event.get("consents", [])
    return " ".join(consent[:8] for consent in ids)


def _what(event: Mapping[str, Any]) -> str:
    if event["activity"] == "consent":
        return _consent(event)
    if event["activity"] == "erase":
        return f"erasure {event['erasure_phase']}"
    given = event["data_categories"]
    # What lies below another one adds nothing for people, and every category begins with `user.`.
    widest = [c for c in given if not any(c.startswith(f"{other}.") for other in given)]
    categories = [category.removeprefix("user.") for category in widest]
    shown = ", ".join(categories[:3]) + (f" +{len(categories) - 3}" if len(categories) > 3 else "")
    return shown or (event["event_type"] or "-")


def _consent(event: Mapping[str, Any]) -> str:
    match event["consent_action"]:
        case "accept":
            return f"accepts version {event['consent_version']}"
        case "leave":
            return "leaves"
        case "age":
            return f"age {event['age_band']}"
        case "guardian":
            return "guardian consents" if event["guardian_granted"] else "guardian refuses"
        case action:
            given = [category.removeprefix("user.") for category in event["data_categories"]]
            return f"{action}s {event['consent_activity']}" + (f" of {', '.join(given)}" if given else "")


def _who(event: Mapping[str, Any]) -> str:
    recipient = event["recipient"]
    if event["activity"] == "publish":
        return "the public"
    if recipient is None:
        return "-"
    kind = f" ({event['recipient_kind']})" if event["recipient_kind"] not in (None, "none", "unknown") else ""
    via = f" from {event['discloser']}" if event["discloser"] not in (None, "", "self") else ""
    return f"{recipient}{kind}{via}"


@click.command()
@json_option
@over_api
def totals(as_json: bool, api: AuditClient) -> None:
    """Count all events, each once, by activity, verdict, clause and recipient.

    Example: lineage totals --json
    """
    answer = api.get("/totals")
    if as_json:
        write_json(answer)
        return
    for line in totals_lines(answer):
        click.echo(line)


def totals_lines(answer: Mapping[str, Any]) -> Iterable[str]:
    """Lines for people."""
    yield f"{answer['events']:,} events of {answer['subjects']:,} people, {answer['dead_letters']:,} dead letters"
    for name in ("by_activity", "by_verdict", "by_clause", "by_recipient"):
        yield from counts(name.replace("_", " "), answer[name])


@click.command()
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option("--independent", is_flag=True, help="By the second judge, that of lineage verify.")
@click.option("--json", "as_json", is_flag=True, help="The answer is JSON lines anyway; accepted for uniformity.")
def judge(file: Iterable[str], independent: bool, as_json: bool) -> None:
    """Judge histories: one JSON object a line with policies, recipients, consents, erased and events.

    Prints one JSON line for each event. Needs neither Kafka nor ClickHouse: for people who write a policy and want
    to know what would be.

    Example: lineage judge cases.ndjson
    """
    if independent:
        from audit.independent_histories import judge_history
    else:
        from processors.histories import judge_history

    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            history = json.loads(line)
            verdicts = judge_history(history)
        except KeyError as error:
            raise click.ClickException(f"line {number}: the key {error} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise click.ClickException(f"line {number}: {error}") from error
        for verdict in verdicts:
            write_json_line({"name": history.get("name"), **verdict})
