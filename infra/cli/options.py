"""What the subcommands share: options that say where things are, `--json`, and how answers and progress are written.

Answers go to standard output, everything else to standard error.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

if TYPE_CHECKING:
    from clickhouse_driver import Client

    from infra.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def located(command: Command) -> Command:
    """Adds --data, --kafka and --clickhouse; the command gets `settings` in their place."""

    @click.option("--data", metavar="DIR", help="Data directory of the local stack (LINEAGE_DATA; default .lineage).")
    @click.option("--kafka", metavar="HOST:PORT", help="Your own Kafka (LINEAGE_KAFKA).")
    @click.option("--clickhouse", metavar="URL", help="Your own ClickHouse (LINEAGE_CLICKHOUSE).")
    @functools.wraps(command)
    def with_settings(*args: Any, data: str | None, kafka: str | None, clickhouse: str | None, **rest: Any) -> Any:
        from infra.settings import settings

        return command(*args, settings=settings(data=data, kafka=kafka, clickhouse=clickhouse), **rest)

    return with_settings  # type: ignore[return-value]


@contextlib.contextmanager
def clickhouse(settings: Settings) -> Iterator[Client]:
    """A connection for the length of the block."""
    from sinks.clickhouse.client import connect

    client = connect(settings.clickhouse())
    try:
        yield client
    finally:
        client.disconnect()


def json_option(command: Command) -> Command:
    """Adds --json; the command gets `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(command)


def write_json(answer: Any) -> None:
    """One JSON document to standard output."""
    click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def write_json_line(answer: Any) -> None:
    """One line of JSON to standard output."""
    click.echo(orjson.dumps(answer).decode())


def say(text: str) -> None:
    """A line of progress to standard error."""
    click.echo(text, err=True)


class ProgressLine:
    """One line on standard error that is written anew; on what is no terminal, a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = 0
        self._said_at = 0.0

    def show(self, text: str) -> None:
        import time

        now = time.monotonic()
        if self._terminal:
            if now - self._said_at < 0.1:
                return
            click.echo("\r" + text.ljust(self._shown), err=True, nl=False)
            self._shown = len(text)
        elif now - self._said_at >= 5.0:
            click.echo(text, err=True)
        else:
            return
        self._said_at = now

    def clear(self) -> None:
        if self._shown:
            click.echo("\r" + " " * self._shown + "\r", err=True, nl=False)
            self._shown = 0


def table(rows: Sequence[Sequence[str]], heading: Sequence[str]) -> Iterable[str]:
    """Lines of a table with aligned columns; the last column is not padded."""
    widths = [max(len(row[at]) for row in [heading, *rows]) for at in range(len(heading))]
    for row in [heading, *rows]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def counts(title: str, values: Mapping[str, int]) -> Iterable[str]:
    """Lines `title  value  count`, numbers aligned to the right."""
    width = max((len(f"{count:,}") for count in values.values()), default=0)
    for at, (value, count) in enumerate(values.items()):
        yield f"{title if at == 0 else '':<14}{f'{count:,}':>{width}}  {value}"
