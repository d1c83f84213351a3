"""Reads the rows of a file: JSON lines, CSV or a JSON document, also from standard input.

What cannot be read as a row is a `Rejection` in its place, with the line it stands on, and reading goes on behind
it. Files are read once, in batches, never whole (a JSON document excepted). Topics: `topic_reader.py`.
"""

import csv
import gzip
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

import orjson

from streams.sources.expressions import Row, path
from streams.sources.mapping import Mapping as SourceMapping
from streams.sources.mapping import Position, Rejection

BATCH_ROWS = 5_000
MAX_LINE_BYTES = 16 * 1024 * 1024


class SourceError(Exception):
    """A source that cannot be read at all; the text says what to do."""


class Read(NamedTuple):
    """One row with its place, or why it cannot be read."""

    position: Position
    row: Row | Rejection


class Reader(Protocol):
    """A source being read."""

    def batches(self) -> Iterator[list[Read]]:
        """The rows in their order, some thousands at a time; for a followed topic also empty batches, so that the
        caller can stop."""
        ...

    def commit(self, done: list[Read]) -> None:
        """Remembers that rows are dealt with, where the source can."""
        ...

    def close(self) -> None: ...


class FileReader:
    """A file (also `.gz`), or standard input as `-`."""

    def __init__(self, source: str, mapping: SourceMapping) -> None:
        self._source = source
        self._input = mapping.input
        if source != "-" and not Path(source).is_file():
            raise SourceError(f"no file {source}: give a path, or - for standard input")

    def batches(self) -> Iterator[list[Read]]:
        with _opened(self._source) as stream:
            rows = _FORMATS[self._input["format"]](stream, self._input)
            batch: list[Read] = []
            for read in rows:
                batch.append(read)
                if len(batch) >= BATCH_ROWS:
                    yield batch
                    batch = []
            if batch:
                yield batch

    def commit(self, done: list[Read]) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        with gzip.open(source) if source.endswith(".gz") else open(source, "rb") as stream:
            yield cast(BinaryIO, stream)
    except (OSError, EOFError) as error:
        raise SourceError(f"{source} cannot be read: {error}") from error


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | Rejection]]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, Rejection(f"longer than {MAX_LINE_BYTES >> 20} MiB")
        else:
            # A byte order mark is no part of the data.
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _json_lines(stream: BinaryIO, _input: Mapping[str, Any]) -> Iterator[Read]:
    for number, line in _lines(stream):
        if isinstance(line, Rejection):
            yield Read(Position(number), line)
        elif line.strip():
            yield Read(Position(number), json_row(line))


def json_row(text: bytes) -> Row | Rejection:
    """A JSON object in UTF-8, or why it is none."""
    try:
        row = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            text.decode()
        except UnicodeDecodeError:
            return Rejection("not UTF-8")
        return Rejection("not JSON")
    return row if type(row) is dict else Rejection("not a JSON object")


def _csv(stream: BinaryIO, given: Mapping[str, Any]) -> Iterator[Read]:
    broken: list[int] = []

    def decoded() -> Iterator[str]:
        for number, line in _lines(stream):
            if isinstance(line, Rejection):
                broken.append(number)
                yield "\n"
                continue
            try:
                yield line.decode()
            except UnicodeDecodeError:
                broken.append(number)
                yield line.decode(errors="replace")

    csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader(decoded(), delimiter=given.get("delimiter", ","))
    header: list[str] | None = None
    while True:
        first_line = rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error:
            yield Read(Position(first_line), Rejection("not CSV"))
            continue
        if cells is None:
            return
        spoilt = bool(broken)
        broken.clear()
        if header is None:
            if spoilt or len(set(cells)) != len(cells) or not cells:
                raise SourceError("the first line must name the columns, each once, in UTF-8")
            header = cells
        elif spoilt:
            yield Read(Position(first_line), Rejection("not UTF-8, or too long a line"))
        elif len(cells) == len(header):
            yield Read(Position(first_line), dict(zip(header, cells, strict=True)))
        elif cells:
            yield Read(Position(first_line), Rejection("not as many columns as the header"))


def _json(stream: BinaryIO, given: Mapping[str, Any]) -> Iterator[Read]:
    try:
        document = orjson.loads(stream.read())
    except orjson.JSONDecodeError as error:
        raise SourceError(f"not a JSON document (line {error.lineno}); for one object a line use jsonl") from None
    if "rows" in given:
        document = path(given["rows"])(document) if type(document) is dict else None
    if type(document) is not list:
        raise SourceError("no list of records in the JSON document: name its path as `input.rows` in the mapping")
    for number, row in enumerate(document, 1):
        yield Read(Position(number), row if type(row) is dict else Rejection("not a JSON object"))


_FORMATS: dict[str, Callable[[BinaryIO, Mapping[str, Any]], Iterator[Read]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "json": _json,
}
