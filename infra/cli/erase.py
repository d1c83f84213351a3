"""`lineage erase`: asks for the erasure of a person, of many, or of everyone; or tells whom that would reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import click

from infra.cli.erase_answer import Asked, Asking, show, show_count, wait_for
from infra.cli.erase_preview import preview, preview_lines
from infra.cli.options import ProgressLine, clickhouse, json_option, located, say, write_json
from infra.settings import Settings, SettingsError

if TYPE_CHECKING:
    from clickhouse_driver import Client

    from streams.erasure_intake import ErasureIntake

ORIGINS = ("person", "minor", "retention", "withdrawal", "leave", "shutdown", "merger")
OPERATOR = "operator at the command line"
REQUESTER = "command line"
# Each waits for Kafka's acknowledgement: side by side they share its batches.
_AT_ONCE = 32


@click.command()
@click.argument("user", required=False)
@click.option("--file", type=click.File("r", encoding="utf-8"), help="User ids, one a line (`-`: standard input).")
@click.option("--everyone", is_flag=True, help="All who are known: the service shuts down (clause 4.2).")
@click.option("--origin", type=click.Choice(ORIGINS), help="Why it is asked for.  [default: person]")
@click.option(
    "--regulation", type=click.Choice(("pipl", "gdpr", "ccpa")), default="pipl", show_default=True, help="The law."
)
@click.option("--verified-by", metavar="TEXT", help="How identity was verified. No personal values.")
@click.option("--unverified", is_flag=True, help="Identity is still to be verified: nothing is deleted until it is.")
@click.option("--dry-run", is_flag=True, help="Only tell whom it would reach.")
@click.option("--wait", is_flag=True, help="Until it is over, or waits for recipients only.")
@click.option("--timeout", default=600.0, show_default=True, metavar="S", help="With --wait: at most so long.")
@click.option("--yes", is_flag=True, help="With --everyone: ask no more.")
@json_option
@located
def erase(
    user: str | None,
    file: Iterable[str] | None,
    everyone: bool,
    origin: str | None,
    regulation: str,
    verified_by: str | None,
    unverified: bool,
    dry_run: bool,
    wait: bool,
    timeout: float,
    yes: bool,
    as_json: bool,
    settings: Settings,
) -> None:
    """Erase a person: every recipient that was given their data is asked, then they leave the own stores.

    Whoever runs this states that the person's identity is verified, unless --unverified. What is asked twice is one
    request. `lineage requests` tells how it goes on.

    \b
    Examples:
      lineage erase u-17 --dry-run
      lineage erase u-17 --verified-by "one-time code by e-mail" --wait
      lineage erase --file users.txt --origin person
      lineage erase --everyone --origin shutdown
    """
    if (user is not None) + (file is not None) + everyone != 1:
        raise click.UsageError("give one of USER, --file FILE or --everyone")
    if unverified and verified_by:
        raise click.UsageError("--unverified and --verified-by contradict each other")
    users = [user] if user is not None else [line.strip() for line in file or () if line.strip()]
    if not users and not everyone:
        raise click.ClickException("the file names nobody")
    _refuse_personal(users, verified_by or "")
    chosen = origin or ("shutdown" if everyone else "person")
    asking = Asking(chosen, regulation, "" if unverified else verified_by or OPERATOR)
    with clickhouse(settings) as client:
        people = _everyone(client) if everyone else _aliases(settings, users)
        if dry_run:
            answer = preview(settings, client, people)
            if as_json:
                write_json(answer)
            else:
                for line in preview_lines(answer):
                    click.echo(line)
            return
        if everyone and not yes:
            click.confirm(f"erase all {len(people):,} people that are known here?", abort=True, err=True)
        _note_strangers(client, [] if everyone else people)
        asked = _ask(settings, client, people, users, asking)
        if wait:
            wait_for(client, [one.request_id for one in asked], timeout)
        if everyone:
            show_count(asked, asking, as_json)
        else:
            show(client, asked, asking, user is not None, as_json)


def _refuse_personal(users: Sequence[str], verified_by: str) -> None:
    """What is recorded about the verification outlives the person. Raises `ClickException`."""
    if any(len(user) > 2 and user.casefold() in verified_by.casefold() for user in users):
        raise click.ClickException("--verified-by names the user: it must hold no personal values, as it is kept")


def _aliases(settings: Settings, users: Sequence[str]) -> list[bytes]:
    from processors.pseudonyms import alias

    pepper = settings.pepper()
    try:
        return list(dict.fromkeys(alias(pepper, user) for user in users))
    except UnicodeEncodeError:
        raise click.ClickException("a user id is no valid Unicode text") from None


def _note_strangers(client: Client, people: Sequence[bytes]) -> None:
    """Whoever is not known here is asked for all the same: something of them may be on its way."""
    from sinks.clickhouse.erasures import subjects_of_aliases

    strangers = len(people) - len(subjects_of_aliases(client, people))
    if strangers:
        who = "this user is" if len(people) == 1 else f"{strangers:,} of {len(people):,} users are"
        say(f"note: {who} not known here (never seen, not loaded yet, or erased)")


def _everyone(client: Client) -> list[bytes]:
    from sinks.clickhouse.queries import linked_aliases

    return linked_aliases(client)


def _ask(
    settings: Settings, client: Client, people: Sequence[bytes], users: Sequence[str], asking: Asking
) -> list[Asked]:
    """Tells Kafka. Who has an open request gets that one; of everyone the controller joins them by itself."""
    from streams.erasure_intake import ErasureIntake

    intake = ErasureIntake(settings.kafka(), settings.registry())
    line = ProgressLine()
    try:
        if asking.verified_by:
            _seal(settings, intake, users)
        open_ones = _open_requests(client, people) if users else {}

        def ask(person: bytes) -> Asked:
            known = open_ones.get(person)
            return _ask_one(intake, person, known, asking)

        asked = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for one in pool.map(ask, people):
                asked.append(one)
                if len(people) > 1:
                    line.show(f"{len(asked):,} of {len(people):,} asked for")
        return asked
    finally:
        line.clear()
        intake.close()


def _open_requests(client: Client, people: Sequence[bytes]) -> dict[bytes, Mapping[str, Any]]:
    from sinks.clickhouse.erasures import open_request_of

    found = ((person, open_request_of(client, person)) for person in people)
    return {person: document for person, document in found if document is not None}


def _ask_one(intake: ErasureIntake, person: bytes, known: Mapping[str, Any] | None, asking: Asking) -> Asked:
    told = {"origin": asking.origin, "regulation": asking.regulation, "requester": REQUESTER}
    request_id = uuid4() if known is None else UUID(known["request_id"])
    if known is None:
        intake.step(person, request_id, "received", **told)  # type: ignore[arg-type]
    if asking.verified_by and (known is None or known["verified_at"] is None):
        intake.step(person, request_id, "verified", verified_by=asking.verified_by, **told)  # type: ignore[arg-type]
    return Asked(request_id, known is None)


def _seal(settings: Settings, intake: ErasureIntake, users: Sequence[str]) -> None:
    """Recipients know the user id: should no edge have sealed it, it is sealed now, before anything is asked."""
    from processors.pseudonyms import alias
    from streams.identities import user_identity

    try:
        public_key = settings.controller_public_key()
    except SettingsError as error:
        say(f"note: user ids are not sealed along: {error}")
        return
    pepper = settings.pepper()
    for user in users:
        intake.add_identities(public_key, alias(pepper, user), [user_identity(user)], pepper=pepper)
