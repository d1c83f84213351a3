"""The questions of docs/sql.md and their answers on the world of tests/sql_world.py.

`python -m tests.sql_questions` asks them all again and writes the answers into the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clickhouse_driver import Client

from infra.local.clickhouse import LocalClickHouse
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect
from tests import sql_world

DOCUMENT = Path(__file__).parents[1] / "docs" / "sql.md"
_QUESTION = re.compile(r"```sql\n(.*?)\n```\n(?:```text\n.*?\n```\n)?", re.DOTALL)


def questions(text: str) -> Iterator[str]:
    """All SQL of the document, in its order."""
    yield from (match[1] for match in _QUESTION.finditer(text))


def answered(text: str, client: Client) -> str:
    """The document with the answers that the database gives."""
    return _QUESTION.sub(lambda found: f"```sql\n{found[1]}\n```\n```text\n{answer(client, found[1])}\n```\n", text)


def answer(client: Client, sql: str) -> str:
    rows, columns = client.execute(sql.rstrip(";").replace("%", "%%"), with_column_types=True)
    table = [[name for name, _ in columns], *([_word(value) for value in row] for row in rows)]
    widths = [max(len(line[n]) for line in table) for n in range(len(columns))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _word(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_word, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).removesuffix("+00:00")


def main() -> None:
    with TemporaryDirectory() as folder:
        engine = LocalClickHouse(Path(folder))
        engine.start()
        try:
            with connect(engine.url) as client:
                migrate.apply(client)
                sql_world.fill(client, b"p" * 32)
                DOCUMENT.write_text(answered(DOCUMENT.read_text("utf-8"), client), "utf-8")
        finally:
            engine.stop()


if __name__ == "__main__":
    main()
