"""How a command changes an open request: tell it, wait until the controller has taken it, show the request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from infra.cli.options import clickhouse, say, write_json
from infra.settings import Settings

if TYPE_CHECKING:
    from clickhouse_driver import Client

    from processors.erasure_acts import Told
    from streams.erasure_intake import ErasureIntake

request_argument = click.argument("request", type=click.UUID)


@dataclass(frozen=True)
class Change:
    """What a change is told with. `document`: the request as it stands, an ErasureState of the projection."""

    request_id: UUID
    document: Mapping[str, Any]
    intake: ErasureIntake
    client: Client

    def tell(self, told: Iterable[Told]) -> None:
        """Tells what a person has done about its recipients (processors/erasure_acts.py)."""
        for one in told:
            self.intake.receipt(self.request_id, **one._asdict())


def change(settings: Settings, request: UUID, as_json: bool, tell: Callable[[Change], None]) -> None:
    """Changes a request, or the one that it has joined. Raises `ClickException` when it has ended."""
    from audit.erasures import request_answer
    from infra.cli.erasure_queue import SHOWN_SECONDS, answering, now_ms, request_lines, wait_until_shown
    from processors.erasure_acts import ActRefused, UnknownRecipient, open_request
    from streams.erasure_intake import ErasureIntake

    with clickhouse(settings) as client:
        document = answering(client, request)
        before = document["version"]
        try:
            request_id = open_request(document)
        except ActRefused as refused:
            raise click.ClickException(str(refused)) from None
        intake = ErasureIntake(settings.kafka(), settings.registry())
        try:
            tell(Change(request_id, document, intake, client))
        except (ActRefused, UnknownRecipient) as refused:
            raise click.ClickException(str(refused)) from None
        finally:
            intake.close()
        shown = wait_until_shown(client, [request_id], lambda d: d["version"] > before, SHOWN_SECONDS)
    if request_id not in shown:
        say("told; the controller has not taken it yet (does the worker `erasures` run? lineage status)")
    answer = request_answer(shown.get(request_id, document), now_ms())
    if as_json:
        write_json(answer)
        return
    for line in request_lines(answer, now_ms()):
        click.echo(line)
