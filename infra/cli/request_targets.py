"""`lineage requests retry|confirm|exempt|task`: what a person does about one recipient of a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from infra.cli.audit import clickhouse
from infra.cli.options import json_option, located, say, write_json
from infra.cli.request_changes import Change, change, request_argument
from infra.settings import Settings

if TYPE_CHECKING:
    from clickhouse_driver import Client

    from sinks.recipients.manual_text import Task

_TARGET = click.argument("target")


@click.command()
@request_argument
@click.argument("target", required=False)
@json_option
@located
def retry(request: UUID, target: str | None, as_json: bool, settings: Settings) -> None:
    """Ask a recipient again now, or all that have not done it. The command keeps its idempotency key.

    Example: lineage requests retry 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 lumen-analytics
    """
    from processors.erasure_commands import Grade

    def tell(to: Change) -> None:
        wanted = [target] if target else _not_done(to.document)
        if not wanted:
            raise click.ClickException("every recipient has done it, or may keep the data: there is nothing to retry")
        for name in wanted:
            if _recipient(to.document, name)["state"] in ("completed", "exempt"):
                raise click.ClickException(f"{name} is {_recipient(to.document, name)['state']}: nothing to retry")
        for name in wanted:
            to.intake.receipt(to.request_id, name, "retry", grade=Grade.none, source="operator")

    change(settings, request, as_json, tell)


@click.command()
@request_argument
@_TARGET
@click.option("--note", default="", metavar="TEXT", help="Who confirmed it and how. No personal values of the person.")
@click.option("--reference", type=click.UUID, help="The reference that the answer names: it must be the newest one.")
@json_option
@located
def confirm(request: UUID, target: str, note: str, reference: UUID | None, as_json: bool, settings: Settings) -> None:
    """Say that a recipient has confirmed the deletion to a person here, e.g. by e-mail. Counts as its word: `claimed`.

    A recipient that was given more data since it was asked is asked again, under a new reference: an answer to the
    one before says nothing of that.

    Example: lineage requests confirm 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 old-agency --note "e-mail of 3 May"
    """
    from processors.erasure_commands import Grade

    def tell(to: Change) -> None:
        if _recipient(to.document, target)["state"] == "completed":
            raise click.ClickException(f"{target} is completed already")
        detail = f"confirmed to a person: {note}" if note else "confirmed to a person"
        key = _reference(to, target)
        if reference not in (None, key):
            raise click.ClickException(
                f"{target} got more data since: ask it again under {key} (lineage requests task)"
            )
        to.intake.receipt(
            to.request_id,
            target,
            "completed",
            grade=Grade.claimed,
            detail=detail,
            source="manual",
            idempotency_key=key,
        )

    change(settings, request, as_json, tell)


@click.command()
@request_argument
@_TARGET
@click.option("--ground", required=True, metavar="TEXT", help="The law or clause that lets it keep the data.")
@json_option
@located
def exempt(request: UUID, target: str, ground: str, as_json: bool, settings: Settings) -> None:
    """Say that a recipient may keep the data, with the legal ground. The certificate tells it, under clause 5.

    Example: lineage requests exempt 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 redpay --ground "tax law: invoices, 10 years"
    """
    from processors.erasure_commands import Grade

    def tell(to: Change) -> None:
        state = _recipient(to.document, target)["state"]
        if state in ("completed", "exempt"):
            raise click.ClickException(f"{target} is {state} already")
        to.intake.receipt(to.request_id, target, "exempt", grade=Grade.none, ground=ground, source="operator")

    change(settings, request, as_json, tell)


@click.command()
@request_argument
@_TARGET
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file, for you only.")
@json_option
@located
def task(request: UUID, target: str, output: Path | None, as_json: bool, settings: Settings) -> None:
    """Write the e-mail that asks a recipient to delete, for a person to send. It names the person: keep no copy.

    The identifiers are opened for this moment, and stored nowhere by this program. Needs the controller's private key.

    Example: lineage requests task 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 old-agency
    """
    from infra.cli.erasure_queue import answering
    from infra.settings import write_secret
    from sinks.recipients.manual_text import manual_message

    with clickhouse(settings) as client:
        document = answering(client, request)
        message = manual_message(_task(settings, client, document, target))
    if output is not None:
        write_secret(output, f"{message}".encode())
        say(f"written to {output}, which names the person: delete it once it is sent")
    if as_json:
        write_json({"to": message.to, "subject": message.subject, "text": message.text})
    elif output is None:
        click.echo(str(message), nl=False)


def _task(settings: Settings, client: Client, document: Mapping[str, Any], name: str) -> Task:
    from infra.cli.erasure_queue import now_ms
    from infra.connectors import connectors_of
    from processors.erasure import DAY
    from processors.erasure_commands import idempotency_key
    from sinks.clickhouse.erasure_overview import alias_of_open_request
    from sinks.recipients.configuration import ManualTask
    from sinks.recipients.manual_text import Task
    from streams.identities import load_private_key
    from streams.publishing import published_recipients
    from streams.sealed_identities import find_sealed, open_identities

    request_id = UUID(document["request_id"])
    target = _recipient(document, name)
    if target["state"] in ("completed", "exempt"):
        raise click.ClickException(f"{name} is {target['state']}: nobody needs to ask it")
    if document["hold"]:
        raise click.ClickException(f"request {request_id} is held ({document['hold']}): nobody may be asked now")
    person = alias_of_open_request(client, request_id)
    if person is None:
        raise click.ClickException(
            f"request {request_id} is {document['state']}: nothing is known of the person any more"
        )
    registry = settings.registry()
    sealed = find_sealed(settings.kafka(), [person], registry)[person]
    identities = open_identities(load_private_key(settings.controller_private_key()), person, sealed)
    given = connectors_of(settings).of(name)
    manual = given if isinstance(given, ManualTask) else None
    if manual and manual.identity_types:
        identities = tuple(i for i in identities if i["identity_type"] in manual.identity_types)
    entries = [r for r in published_recipients(settings.kafka(), registry) if r["id"] == name]
    entry = max(entries, key=lambda r: r["effective_at"], default={})
    asked_for = (now_ms() - (target["dispatched_at"] or now_ms())) / DAY
    return Task(
        recipient=name,
        reference=idempotency_key(request_id, name, target["round"]),
        due_at=document["due_at"],
        name=entry.get("name") or "",
        contact=(manual.contact if manual else "") or entry.get("contact") or "",
        regulation=document["regulation"],
        sender=settings.opendsr_domain,
        reminder=sum(day <= asked_for for day in manual.remind_days) if manual else 0,
        identities=identities,
    )


def _reference(to: Change, name: str) -> UUID:
    """The key of the newest command to a recipient; what a manual task asks to be answered under."""
    from processors.erasure_commands import idempotency_key

    return idempotency_key(to.request_id, name, _recipient(to.document, name)["round"])


def _not_done(document: Mapping[str, Any]) -> list[str]:
    done = ("completed", "exempt")
    return [t["id"] for t in document["targets"] if t["state"] not in done and not t["id"].startswith("store:")]


def _recipient(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The target of that name. Raises `ClickException`."""
    recipients: dict[str, Mapping[str, Any]] = {
        t["id"]: t for t in document["targets"] if not t["id"].startswith("store:")
    }
    if name not in recipients:
        known = ", ".join(sorted(recipients)) or "none yet"
        raise click.ClickException(f"{name} is no recipient of this request; there is: {known}")
    return recipients[name]
