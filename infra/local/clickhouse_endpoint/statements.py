"""What a query text asks the endpoint to do, read from its first words. Never runs anything.

The engine parses SQL; this only finds what decides how to talk to the client: does an INSERT wait for
blocks, does a result come as a stream, what does SET change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)
      | '(?:[^'\\]|\\.|'')*' | `(?:[^`\\]|\\.|``)*` | "(?:[^"\\]|\\.|"")*"
      | \w+ | .""",
    re.VERBOSE | re.DOTALL,
)
_TRAILING_FORMAT = re.compile(r"\bFORMAT\s+\w+\s*$", re.IGNORECASE)
_INSERT_BODIES = frozenset({"VALUES", "FORMAT", "SELECT", "WITH", "FROM", "WATCH"})
_TRAILING_SEMICOLON = re.compile(r"[;\s]+$")


@dataclass(frozen=True, slots=True)
class InsertOfBlocks:
    """An INSERT whose rows the client sends as blocks; its parts as SQL text."""

    table: str
    columns: str
    """`(a, b)` as written, or empty."""
    settings: str
    """`SETTINGS …` as written, or empty."""

    def sample(self) -> str:
        """A query whose columns are those that the INSERT expects."""
        return f"SELECT {self.columns[1:-1] or '*'} FROM {self.table}"

    def from_file(self, path: str) -> str:
        """The INSERT that takes its blocks from a file in Native format."""
        return (
            f"INSERT INTO {self.table} {self.columns} FROM INFILE '{path}' COMPRESSION 'none' "
            f"{self.settings} FORMAT Native"
        )


def without_format(sql: str) -> str:
    """A query without its closing `;` and `FORMAT …`: results always travel as Native blocks."""
    return _TRAILING_FORMAT.sub("", _TRAILING_SEMICOLON.sub("", sql))


def is_select(sql: str) -> bool:
    """True for what begins as a SELECT does."""
    return _first_word(sql) in ("SELECT", "WITH")


def insert_of_blocks(sql: str, ignore_inline_rows: bool = False) -> InsertOfBlocks | None:
    """The INSERT for which the client is going to send blocks; None for every other statement.

    `ignore_inline_rows`: the command-line client of ClickHouse sends rows written in the text as blocks too.
    """
    if _first_word(sql) != "INSERT":
        return None
    tokens = _insert_head(sql)
    words = [word.upper() for word, _, _ in tokens] + [""] * 3
    at = 1
    while words[at] in ("INTO", "TABLE"):
        at += 1
    if words[at] in ("", "FUNCTION"):
        return None
    table_from = at
    while words[at + 1] == ".":
        at += 2
    table = sql[tokens[table_from][1] : tokens[at][2]]
    at += 1
    columns = settings = ""
    if words[at] == "(":
        close = _closing(words, at)
        if close is None or words[at + 1] in ("SELECT", "WITH"):
            return None
        columns = sql[tokens[at][1] : tokens[close][2]]
        at = close + 1
    if words[at] == "SETTINGS":
        settings_from = at
        while words[at] and words[at] not in _INSERT_BODIES:
            at += 1
        settings = sql[tokens[settings_from][1] : tokens[at - 1][2]]
    if words[at] not in ("VALUES", "FORMAT"):
        return None
    at += 1 if words[at] == "VALUES" else 2
    inline = words[at] not in ("", ";")
    return None if inline and not ignore_inline_rows else InsertOfBlocks(table, columns, settings)


def settings_set(sql: str) -> dict[str, str] | None:
    """What `SET a = 1, b = DEFAULT` changes: name → value as SQL text. None for any other statement."""
    if _first_word(sql) != "SET":
        return None
    tokens = [*_tokens(sql)]
    found: dict[str, str] = {}
    at = 1
    while at + 2 < len(tokens) and tokens[at + 1][0] == "=":
        name, depth, end = tokens[at][0].strip('`"'), 0, at + 2
        while end < len(tokens) and (depth or tokens[end][0] not in (",", ";")):
            depth += (tokens[end][0] in "([{") - (tokens[end][0] in ")]}")
            end += 1
        found[name] = sql[tokens[at + 2][1] : tokens[end - 1][2]]
        at = end + 1
    return found


def _first_word(sql: str) -> str:
    return next((word.upper() for word, _, _ in _tokens(sql) if word != "("), "")


def _insert_head(sql: str) -> list[tuple[str, int, int]]:
    """The tokens of an INSERT up to three behind its VALUES, FORMAT or SELECT: the rows may be long."""
    head, depth = [], 0
    tokens = _tokens(sql)
    for token in tokens:
        head.append(token)
        depth += (token[0] == "(") - (token[0] == ")")
        if depth == 0 and token[0].upper() in _INSERT_BODIES:
            return [*head, *islice(tokens, 3)]
    return head


def _closing(words: list[str], start: int) -> int | None:
    depth = 0
    for at in range(start, len(words)):
        depth += (words[at] == "(") - (words[at] == ")")
        if depth == 0:
            return at
    return None


def _tokens(sql: str) -> Iterator[tuple[str, int, int]]:
    """Token, start and end of each, without white space and comments."""
    for match in _TOKEN.finditer(sql):
        if match["blank"] is None:
            yield match[0], match.start(), match.end()
