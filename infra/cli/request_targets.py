"""`lineage requests retry|confirm|exempt|task`: what a person does about one recipient of a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from infra.cli.options import clickhouse, json_option, located, say, write_json
from infra.cli.request_changes import change, request_argument
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
    from processors import erasure_acts

    change(settings, request, as_json, lambda to: to.tell(erasure_acts.retry(to.document, target)))


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
    from processors import erasure_acts

    change(settings, request, as_json, lambda to: to.tell(erasure_acts.confirm(to.document, target, note, reference)))


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
    from processors import erasure_acts

    change(settings, request, as_json, lambda to: to.tell(erasure_acts.exempt(to.document, target, ground)))


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
    from processors.erasure_acts import UnknownRecipient, needs_nobody, recipient_of, reference_of
    from sinks.clickhouse.erasure_overview import alias_of_open_request
    from sinks.recipients.configuration import ManualTask
    from sinks.recipients.manual_text import Task
    from streams.identities import load_private_key
    from streams.publishing import published_recipients
    from streams.sealed_identities import find_sealed, open_identities

    request_id = UUID(document["request_id"])
    try:
        target = recipient_of(document, name)
    except UnknownRecipient as unknown:
        raise click.ClickException(str(unknown)) from None
    if needs_nobody(target):
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
        reference=reference_of(document, name),
        due_at=document["due_at"],
        name=entry.get("name") or "",
        contact=(manual.contact if manual else "") or entry.get("contact") or "",
        regulation=document["regulation"],
        sender=settings.opendsr_domain,
        reminder=sum(day <= asked_for for day in manual.remind_days) if manual else 0,
        identities=identities,
    )
