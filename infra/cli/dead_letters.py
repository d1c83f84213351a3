"""`lineage dead-letters list|show`: messages that no job could take, and why."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import click

from infra.cli.options import json_option, located, say, table, write_json
from infra.settings import Settings
from streams.dead_letter_reader import Letter, group, read_dead_letters
from streams.documents import format_instant


@click.group("dead-letters")
def dead_letters() -> None:
    """Show messages that no job could take: how many of which kind, and each with its bytes.

    Example: lineage dead-letters list
    """


@dead_letters.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(0), help="Letters to show one by one.")
@json_option
@located
def list_letters(limit: int, as_json: bool, settings: Settings) -> None:
    """Count dead letters by job, kind and reason, and list the first ones.

    Example: lineage dead-letters list --limit 100 --json
    """
    first: list[Letter] = []

    def letters() -> Iterator[Letter]:
        for letter in read_dead_letters(settings.kafka(), settings.registry()):
            if len(first) < limit:
                first.append(letter)
            yield letter

    groups = group(letters())
    shown = [_line(letter) for letter in first]
    if as_json:
        write_json({"count": sum(g["count"] for g in groups), "groups": groups, "letters": shown})
        return
    if not groups:
        say("no dead letters")
        return
    rows = [[f"{g['count']:,}", g["job"], g["error_class"], g["reason"]] for g in groups]
    for line in table(rows, ["count", "job", "kind", "reason"]):
        click.echo(line)
    click.echo()
    rows = [[x["id"], x["source"], x["failed_at"], x["error_class"]] for x in shown]
    for line in table(rows, ["id", "source", "failed at (UTC)", "kind"]):
        click.echo(line)


@dead_letters.command("show")
@click.argument("letter_id", metavar="ID")
@json_option
@located
def show_letter(letter_id: str, as_json: bool, settings: Settings) -> None:
    """Show one dead letter with its bytes. ID as `list` shows it: partition/offset.

    Example: lineage dead-letters show 3/17
    """
    found = next((x for x in read_dead_letters(settings.kafka(), settings.registry()) if _id(x) == letter_id), None)
    if found is None:
        raise click.ClickException(f"no dead letter {letter_id}; `lineage dead-letters list` shows their ids")
    value: bytes | None = found.record["value"]
    if as_json:
        headers = [{"name": h["name"], "value": _base64(h["value"])} for h in found.record["headers"]]
        more = {"key": _base64(found.key), "value": _base64(value), "headers": headers}
        write_json(_line(found) | more)
        return
    for name, text in _line(found).items():
        click.echo(f"{name:<14}{text}")
    click.echo(f"{'key':<14}{found.key.hex() if found.key else '-'}")
    for header in found.record["headers"]:
        click.echo(f"{'header':<14}{header['name']}: {(header['value'] or b'').hex()}")
    if value is None:
        click.echo(f"{'value':<14}not kept here; the source has it")
        return
    click.echo(f"{'value':<14}{len(value)} bytes")
    for start in range(0, len(value), 16):
        row = value[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        click.echo(f"  {start:08x}  {row.hex(' '):<47}  {text}")


def _id(letter: Letter) -> str:
    return f"{letter.partition}/{letter.offset}"


def _line(letter: Letter) -> dict[str, Any]:
    record = letter.record
    return {
        "id": _id(letter),
        "source": letter.source,
        "job": record["job"],
        "error_class": record["error_class"],
        "reason": record["reason"],
        "failed_at": format_instant(record["failed_at"]),
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")
