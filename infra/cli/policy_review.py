"""`lineage policy lint | diff | coverage`: what a policy hardly means, what a new version changes, what holds its
clauses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.cli.options import json_option, located, say, table, write_json
from infra.settings import Settings, SettingsError
from streams.documents import Document, DocumentError, Problem, describe_problem, format_instant
from streams.policies import (
    lint_policy,
    lint_recipients,
    lint_together,
    load_policy,
    load_recipients,
    policy_record,
    recipient_records,
)

if TYPE_CHECKING:
    from processors.policy_diff import Change
    from sinks.clickhouse.queries import Count

# The tests of our own, where this runs from a checkout.
OWN_CASES = Path(__file__).parents[2] / "tests" / "unit" / "cases"
Noted = tuple[str, str, Problem]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@json_option
def lint(files: Sequence[Path], strict: bool, as_json: bool) -> None:
    """Check policies and recipients without publishing them: errors, and what they hardly mean.

    Give policies together with recipients to have them checked against each other: purposes that nothing can reach,
    regions whose data nobody may receive, recipients that can receive nothing. Recipients are held against the
    newest of the policies given. An error fails; a warning does not, unless --strict.

    \b
    Examples:
      lineage policy lint our-policy.yaml our-recipients.yaml
      lineage policy lint our-policy.yaml --strict
    """
    noted = _lint(files)
    errors = sum(1 for level, _, _ in noted if level == "error")
    failed = bool(errors or (strict and noted))
    if as_json:
        notes = [
            {"level": level, "file": name, "line": problem.line, "path": problem.path, "message": problem.message}
            for level, name, problem in noted
        ]
        write_json({"valid": errors == 0, "errors": errors, "warnings": len(noted) - errors, "notes": notes})
    else:
        for level, name, problem in noted:
            where, _, message = describe_problem(name, problem).partition(f":{problem.line}: ")
            click.echo(f"{where}:{problem.line}: {level}: {message}")
        say(f"{len(files)} files: {errors} errors, {len(noted) - errors} warnings")
    if failed:
        raise click.exceptions.Exit(1)


def _lint(files: Sequence[Path]) -> list[Noted]:
    """(level, file, problem) of all files, errors first."""
    errors: list[Noted] = []
    policies: list[Document] = []
    registries: list[Document] = []
    for path in files:
        try:
            if _holds_recipients(path):
                registries.append(load_recipients(path))
            else:
                policies.append(load_policy(path))
        except DocumentError as error:
            errors += [("error", error.name, problem) for problem in error.problems]
    errors += _contradictions(policies, registries)
    warnings = [(document.name, problem) for document in policies for problem in lint_policy(document)]
    newest = max(policies, key=lambda document: policy_record(document)["effective_at"], default=None)
    for registry in registries:
        against = None if newest is None else policy_record(newest)
        warnings += [(registry.name, problem) for problem in lint_recipients(registry, against)]
        if newest is not None:
            of_policy, of_registry = lint_together(newest, registry)
            warnings += [(newest.name, problem) for problem in of_policy]
            warnings += [(registry.name, problem) for problem in of_registry]
    return errors + [("warning", name, problem) for name, problem in sorted(set(warnings))]


def _contradictions(policies: Iterable[Document], registries: Iterable[Document]) -> Iterable[Noted]:
    """What would be refused when published, as two files say different things of one version or one entry."""
    first: dict[Any, tuple[str, Mapping[str, Any]]] = {}
    for document in policies:
        record = policy_record(document)
        name, known = first.setdefault(record["version"], (document.name, record))
        if known != record:
            message = f"version {record['version']} says something else in {name}: give the change a new version"
            yield "error", document.name, document.problem(("version",), message)
    for document in registries:
        for index, entry in enumerate(recipient_records(document)):
            name, known = first.setdefault((entry["id"], entry["effective_at"]), (document.name, entry))
            if known != entry:
                message = f"this entry of `{entry['id']}` says something else in {name}: give it a new effective_at"
                yield "error", document.name, document.problem(("recipients", index, "effective_at"), message)


def _holds_recipients(path: Path) -> bool:
    """By the only key of its own that such a document has; what cannot be read is told by the reading."""
    import yaml

    try:
        values = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(values, dict) and "recipients" in values


@click.command()
@click.argument("a")
@click.argument("b")
@json_option
@located
def diff(a: str, b: str, as_json: bool, settings: Settings) -> None:
    """Say in words what changes from A to B, for people and for recipients.

    A and B are policies: files, or numbers of published versions; or both are files of recipients.

    \b
    Examples:
      lineage policy diff 1 2
      lineage policy diff our-policy.yaml our-next-policy.yaml --json
    """
    if all(Path(name).is_file() and _holds_recipients(Path(name)) for name in (a, b)):
        _tell_recipients(a, b, as_json, settings)
        return
    from processors.policy_diff import diff_policies

    old, new = _policy(a, settings), _policy(b, settings)
    sides = [
        {"version": record["version"], "effective_at": format_instant(record["effective_at"]), "name": record["name"]}
        for record in (old, new)
    ]
    _tell(diff_policies(old, new), sides[0], sides[1], as_json)


@click.command("diff")
@click.argument("a")
@click.argument("b")
@json_option
@located
def diff_of_recipients(a: str, b: str, as_json: bool, settings: Settings) -> None:
    """Say in words what changes for recipients from A to B, by the latest entry of each.

    A and B are files, or the word `published` for the registry as it is published.

    Example: lineage recipients diff published our-recipients.yaml
    """
    _tell_recipients(a, b, as_json, settings)


def _tell_recipients(a: str, b: str, as_json: bool, settings: Settings) -> None:
    from processors.policy_diff import diff_recipients
    from streams.publishing import published_recipients

    def entries(name: str) -> list[dict[str, Any]]:
        if name == "published":
            return published_recipients(settings.kafka(), settings.registry())
        return recipient_records(load_recipients(Path(name)))

    _tell(diff_recipients(entries(a), entries(b)), {"name": a}, {"name": b}, as_json)


def _tell(changes: Sequence[Change], old: Any, new: Any, as_json: bool) -> None:
    if as_json:
        write_json({"from": old, "to": new, "changes": [change._asdict() for change in changes]})
        return
    for affects, heading in (("subjects", "for the people"), ("recipients", "for recipients")):
        told = [change for change in changes if change.affects == affects]
        for at, change in enumerate(told):
            click.echo(f"{heading if at == 0 else '':<15} {change.text}")
    if not changes:
        click.echo("nothing changes")


@click.command()
@click.option("--policy", "named", metavar="P", help="A file, or the number of a published version.")
@click.option(
    "--cases",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Tests of the policy: a file or folder of histories with `expected`, as `lineage judge` takes them.",
)
@click.option("--strict", is_flag=True, help="Fail if any clause is bare.")
@json_option
@located
def coverage(named: str | None, cases: Sequence[Path], strict: bool, as_json: bool, settings: Settings) -> None:
    """Show each clause of a policy with its rules, its tests, and how often it decided in the data at hand.

    A clause is bare without a rule, or without both a lawful and an unlawful test, unless what it asks for is no
    matter of a single event and a record is kept instead. Without --policy it is the newest published version, or the
    Aoxun policy where no stack runs; without --cases the project's own, in a checkout.

    \b
    Examples:
      lineage policy coverage --strict
      lineage policy coverage --policy our-policy.yaml --cases our-cases.ndjson --json
    """
    from audit.coverage import coverage as cover
    from audit.coverage import read_cases

    places = cases or [place for place in [OWN_CASES] if place.is_dir()]
    if not places:
        say("note: the project's own cases are in a checkout only; name cases with --cases")
    counts, note = _counts(settings)
    record = _policy_at_hand(settings) if named is None else _policy(named, settings)
    answer = cover(record, [case for place in places for case in read_cases(place)], counts)
    if as_json:
        write_json({"policy_version": record["version"], "note": note, **answer})
    else:
        for line in _coverage_lines(answer):
            click.echo(line)
        if note:
            say(f"note: {note}")
        bare = ", ".join(answer["bare"])
        say(f"policy version {record['version']}: {len(answer['clauses'])} clauses, bare: {bare or 'none'}")
    if strict and answer["bare"]:
        raise click.exceptions.Exit(1)


def _coverage_lines(answer: Mapping[str, Any]) -> Iterable[str]:
    rows = [
        [
            clause["clause"],
            f"{clause['lawful_tests']}/{clause['unlawful_tests']}",
            " ".join(f"{clause['decided_as'][verdict]:,}" for verdict in ("lawful", "violation", "gap")),
            "BARE" if clause["bare"] else "",
            ", ".join(clause["rules"]) or clause["record"] or "-",
        ]
        for clause in answer["clauses"]
    ]
    return table(rows, ["clause", "tests lawful/unlawful", "decided lawful violation gap", "", "rules, or record kept"])


def _counts(settings: Settings) -> tuple[list[Count], str | None]:
    from infra.cli.options import clickhouse
    from sinks.clickhouse.queries import count_events

    try:
        with clickhouse(settings) as client:
            return count_events(client), None
    except SettingsError:
        return [], "no stack runs and no ClickHouse is named, so nothing is counted (lineage up, or --clickhouse URL)"


def _policy(name: str, settings: Settings) -> dict[str, Any]:
    """The record of a policy: a file, or the number of a published version."""
    if not name.isdecimal() or Path(name).is_file():
        return policy_record(load_policy(Path(name)))
    from streams.publishing import published_policies

    records = published_policies(settings.kafka(), settings.registry())
    for record in records:
        if record["version"] == int(name):
            return record
    known = ", ".join(str(record["version"]) for record in records) or "none"
    raise click.ClickException(f"version {name} is not published; there is: {known}. Or name a file")


def _policy_at_hand(settings: Settings) -> dict[str, Any]:
    from schemas import schema_dir
    from streams.publishing import published_policies

    try:
        records = published_policies(settings.kafka(), settings.registry())
    except SettingsError:
        records = []
    if records:
        return max(records, key=lambda record: (record["effective_at"], record["version"]))
    return policy_record(load_policy(schema_dir() / "policies" / "aoxun.yaml"))
