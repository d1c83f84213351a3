"""`lineage requests …`: the queue of erasures, one request, and what a person decides about it.

Shown is what the audit API answers. What changes a request is told through `streams/erasure_intake.py`, and takes
effect when the controller has taken it; such a command waits some seconds for that and shows the request as it is then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import click

from infra.audit_client import AuditClient
from infra.cli.options import json_option, located, write_json
from infra.cli.over_api import over_api
from infra.cli.request_changes import Change, change, request_argument
from infra.cli.request_targets import confirm, exempt, retry, task
from infra.settings import Settings

REQUESTER = "command line"


class _Requests(click.Group):
    """`lineage requests [ID]` is `lineage requests show [ID]`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Requests)
def requests() -> None:
    """The queue of erasures, one request, and what a person decides about it.

    Without a command it shows: `lineage requests [REQUEST]`, with the options of `lineage requests show`.

    \b
    Examples:
      lineage requests
      lineage requests 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11
      lineage requests hold 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 --ground "court order 17/2026"
    """


@requests.command()
@click.argument("request", type=click.UUID, required=False)
@click.option("--state", metavar="S", help="Only requests in this state, e.g. awaiting or completed.")
@click.option("--all", "everything", is_flag=True, help="Those that have ended as well.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="At most so many.")
@json_option
@over_api
def show(
    request: UUID | None, state: str | None, everything: bool, limit: int, as_json: bool, api: AuditClient
) -> None:
    """Show the queue, what needs attention first; or one request with its targets and history.

    \b
    Examples:
      lineage requests --state awaiting
      lineage requests 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 --json
    """
    from infra.cli.erasure_queue import ask_request, attention_first, now_ms, queue_lines, request_lines

    if request is not None:
        answer = ask_request(api, request)
        if as_json:
            write_json(answer)
            return
        for line in request_lines(answer, now_ms()):
            click.echo(line)
        return
    wanted = {"open": not everything and state is None, "state": state}
    found = attention_first(api.lines("GET", "/requests", wanted), limit)
    if as_json:
        write_json({"requests": found})
        return
    if not found:
        click.echo("no requests" if everything or state else "no open requests (--all shows those that have ended)")
        return
    for line in queue_lines(found, now_ms()):
        click.echo(line)


@requests.command()
@request_argument
@click.option("--how", required=True, metavar="TEXT", help="How identity was verified. No personal values.")
@json_option
@located
def verify(request: UUID, how: str, as_json: bool, settings: Settings) -> None:
    """Say that the person's identity is verified: the term begins, and recipients are asked.

    Example: lineage requests verify 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 --how "video call with support"
    """

    def check(document: Mapping[str, Any]) -> str:
        return "its identity is verified already" if document["verified_at"] is not None else ""

    _step(settings, request, "verified", as_json, check, verified_by=how)


@requests.command()
@request_argument
@click.option("--ground", default="withdrawn", show_default=True, metavar="TEXT", help="Why. No personal values.")
@json_option
@located
def cancel(request: UUID, ground: str, as_json: bool, settings: Settings) -> None:
    """End a request that is not wanted any more. Possible until the first recipient has been asked.

    Example: lineage requests cancel 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11
    """
    _step(settings, request, "cancelled", as_json, _is_under_way, ground=ground)


@requests.command()
@request_argument
@click.option("--ground", required=True, metavar="TEXT", help="The law or clause that allows it. No personal values.")
@json_option
@located
def refuse(request: UUID, ground: str, as_json: bool, settings: Settings) -> None:
    """Refuse a request, with its legal ground. Possible until the first recipient has been asked.

    Example: lineage requests refuse 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 --ground "identity could not be verified"
    """
    _step(settings, request, "refused", as_json, _is_under_way, ground=ground)


@requests.command()
@request_argument
@click.option("--ground", required=True, metavar="TEXT", help="The law or order. No personal values.")
@json_option
@located
def hold(request: UUID, ground: str, as_json: bool, settings: Settings) -> None:
    """Put a legal hold on a request: nothing more is asked or deleted until it is released.

    Example: lineage requests hold 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 --ground "court order 17/2026"
    """
    _step(settings, request, "held", as_json, ground=ground)


@requests.command()
@request_argument
@json_option
@located
def release(request: UUID, as_json: bool, settings: Settings) -> None:
    """Take a legal hold off: the request goes on where it was.

    Example: lineage requests release 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11
    """

    def check(document: Mapping[str, Any]) -> str:
        return "" if document["hold"] else "no hold is on it"

    _step(settings, request, "released", as_json, check)


def _is_under_way(document: Mapping[str, Any]) -> str:
    asked = any(target["attempts"] for target in document["targets"])
    return "recipients have been asked already" if asked or document["erased_at"] is not None else ""


def _step(
    settings: Settings,
    request: UUID,
    step: str,
    as_json: bool,
    check: Callable[[Mapping[str, Any]], str] = lambda _: "",
    *,
    verified_by: str = "",
    ground: str = "",
) -> None:
    """Tells one step. `check`: why it cannot be taken as the request stands, empty if it can."""

    def tell(to: Change) -> None:
        from sinks.clickhouse.erasure_overview import alias_of_open_request

        if why := check(to.document):
            raise click.ClickException(f"request {to.request_id} cannot be {step}: {why}")
        whose = alias_of_open_request(to.client, to.request_id)
        if whose is None:
            raise click.ClickException(f"request {to.request_id} has ended a moment ago")
        to.intake.step(
            whose,
            to.request_id,
            step,
            origin=to.document["origin"],
            regulation=to.document["regulation"],
            verified_by=verified_by,
            ground=ground,
            requester=REQUESTER,
        )

    change(settings, request, as_json, tell)


for _command in (retry, confirm, exempt, task):
    requests.add_command(_command)
