"""For the commands that ask the audit API: where it is, and why people are looked at."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import click

from infra.audit_client import ApiPlace, AuditClient, find_api
from infra.cli.options import say
from infra.settings import Settings

Command = Callable[..., Any]

# What is recorded of a look of the machine's own operator who gives no reason.
NO_REASON = "no reason was given: the operator, at the command line"


def over_api(command: Command) -> Command:
    """Adds --data; the command gets `api`, the client to ask, in its place."""
    return _located(command, client)


def looks_at_people(command: Command) -> Command:
    """As `over_api`, and adds --reason, which goes with whatever is asked."""

    @click.option("--reason", metavar="TEXT", help="Why you look, e.g. the number of the case (LINEAGE_REASON).")
    @functools.wraps(command)
    def with_reason(*args: Any, reason: str | None, settings: Settings, **rest: Any) -> Any:
        place = find_api(settings)
        why = reason_of(settings, place, reason)
        return command(*args, api=AuditClient(place, why, say), **rest)

    return _located(with_reason, None)


def client(settings: Settings, reason: str | None = None) -> AuditClient:
    """Asks the API that the settings lead to. Raises `SettingsError`."""
    return AuditClient(find_api(settings), reason, say)


def reason_of(settings: Settings, place: ApiPlace, given: str | None) -> str:
    """Why people are looked at: as given, else by the environment. The operator of a stack on this machine may look
    without one, and that is what is recorded; anybody else is asked, or refused. Raises `ClickException`.
    """
    reason = given or settings.reason
    if not reason:
        if place.is_local and settings.api_token_file is None:
            return NO_REASON
        if not sys.stdin.isatty():
            raise click.ClickException("say why you look at people, with --reason or LINEAGE_REASON; it is recorded")
        reason = click.prompt("why do you look (e.g. the number of the case; it is recorded)", err=True)
    reason = " ".join(reason.split())
    if not reason.isprintable():
        raise click.ClickException("the reason must be a line of text")
    return reason


def _located(command: Command, made: Callable[[Settings], AuditClient] | None) -> Command:
    """Adds --data. The command gets what is made of the settings as `api`; without `made` the settings themselves."""

    @click.option("--data", metavar="DIR", help="Data directory of the local stack (LINEAGE_DATA; default .lineage).")
    @functools.wraps(command)
    def with_settings(*args: Any, data: str | None, **rest: Any) -> Any:
        from infra.settings import settings

        found = settings(data=data)
        given: dict[str, Any] = {"settings": found} if made is None else {"api": made(found)}
        return command(*args, **given, **rest)

    return with_settings
