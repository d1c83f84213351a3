"""Finds the end of a block in ClickHouse's Native format, by its types, without decoding a value.

The protocol does not say how long a block is. Fixed widths are skipped in one step; only strings are
visited one by one. It never changes a byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from infra.local.clickhouse_endpoint.wire import ByteSource, ProtocolError, text, varint

Column = tuple[str, str]
"""Name and type of a column, as ClickHouse writes them."""

_ROW_LIMIT = 1 << 40
_COLUMN_LIMIT = 1 << 16

_WIDTHS = {
    **{"Bool": 1, "Nothing": 1, "Enum8": 1, "Enum16": 2, "UUID": 16, "IPv4": 4, "IPv6": 16},
    **{f"{sign}Int{bits}": bits // 8 for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)},
    **{"BFloat16": 2, "Float32": 4, "Float64": 8, "Date": 2, "Date32": 4, "DateTime": 4, "DateTime64": 8},
    **{"Time": 4, "Time64": 8, "Decimal32": 4, "Decimal64": 8, "Decimal128": 16, "Decimal256": 32},
    **{f"Interval{unit}": 8 for unit in ("Nanosecond", "Microsecond", "Millisecond", "Second", "Minute")},
    **{f"Interval{unit}": 8 for unit in ("Hour", "Day", "Week", "Month", "Quarter", "Year")},
}
_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Point)",
    "LineString": "Array(Point)",
    "Polygon": "Array(Ring)",
    "MultiLineString": "Array(LineString)",
    "MultiPolygon": "Array(Polygon)",
}
_DICTIONARY_KEYS = 1 << 9
_SHARED_DICTIONARY = 1 << 8
_NAMED_ELEMENT = re.compile(r"\s*(?:`(?:[^`\\]|\\.|``)+`|[A-Za-z_]\w*)\s+(?=[A-Z])")


class UnsupportedType(ValueError):
    """A type whose bytes this endpoint cannot measure."""


@dataclass(frozen=True, slots=True)
class Measure:
    """How to pass one column: `prefix` reads its state once, `values` a number of values."""

    prefix: Callable[[ByteSource], None]
    values: Callable[[ByteSource, int], None]


@dataclass(frozen=True, slots=True)
class BlockShape:
    columns: tuple[Column, ...]
    rows: int

    def header(self) -> bytes:
        """The same block without rows, in Native format."""
        return header_block(self.columns)


def header_block(columns: tuple[Column, ...]) -> bytes:
    return b"".join([varint(len(columns)), b"\0", *(text(part) for column in columns for part in column)])


def pass_block(source: ByteSource) -> BlockShape:
    """Consumes one block of `source`.

    Raises UnsupportedType, ProtocolError for what cannot be a block, Disconnected at an early end.
    """
    column_count, rows = source.varint(), source.varint()
    if column_count > _COLUMN_LIMIT or rows > _ROW_LIMIT:
        raise ProtocolError(f"a block of {column_count} columns and {rows} rows")
    columns = []
    for _ in range(column_count):
        name, type_name = source.text(), source.text()
        columns.append((name, type_name))
        if rows:
            measure = measure_of(type_name)
            measure.prefix(source)
            measure.values(source, rows)
    return BlockShape(tuple(columns), rows)


def split_blocks(data: bytes) -> Iterator[tuple[BlockShape, bytes]]:
    """The blocks that `data` consists of. Raises UnsupportedType."""
    source = ByteSource.of(data)
    while source.position < len(data):
        start = source.position
        shape = pass_block(source)
        yield shape, data[start : source.position]


def row_count(block: bytes) -> int:
    source = ByteSource.of(block)
    source.varint()
    return source.varint()


@lru_cache(maxsize=1024)
def measure_of(type_name: str) -> Measure:
    """Raises UnsupportedType."""
    try:
        return _measure(type_name.strip())
    except RecursionError as error:
        raise UnsupportedType("a type nested too deeply") from error


def _measure(type_name: str) -> Measure:
    family, _, rest = type_name.partition("(")
    arguments = _split(rest[:-1]) if rest.endswith(")") else []
    if type_name in _ALIASES:
        return _measure(_ALIASES[type_name])
    if width := _WIDTHS.get(family):
        return _fixed(width)
    if family == "String":
        return Measure(_no_prefix, ByteSource.skip_strings)
    if family == "FixedString" and len(arguments) == 1 and arguments[0].strip().isdigit():
        return _fixed(int(arguments[0]))
    if family == "Decimal" and arguments and arguments[0].isdigit():
        digits = int(arguments[0])
        return _fixed(next(width for most, width in ((9, 4), (18, 8), (38, 16), (999, 32)) if digits <= most))
    if family in ("Nullable", "Array", "LowCardinality") and len(arguments) == 1:
        make = {"Nullable": _nullable, "Array": _array, "LowCardinality": _low_cardinality}[family]
        return make(arguments[0].strip())
    if family == "SimpleAggregateFunction" and len(arguments) == 2:
        return _measure(arguments[1].strip())
    if family == "Map" and len(arguments) == 2:
        return _array_of(_tuple(arguments))
    if family == "Tuple":
        return _tuple([_NAMED_ELEMENT.sub("", element, count=1) for element in arguments])
    if family == "Nested" and arguments:
        return _array_of(_tuple([_NAMED_ELEMENT.sub("", element, count=1) for element in arguments]))
    raise UnsupportedType(f"columns of type {type_name[:80]} are not spoken here")


def _split(arguments: str) -> list[str]:
    """`a, Tuple(b, c), Enum8('x,y' = 1)` at the commas of its own level."""
    parts, depth, start, at = [], 0, 0, 0
    while at < len(arguments):
        character = arguments[at]
        if character in "'`":
            at += 1
            while at < len(arguments) and arguments[at] != character:
                at += 2 if arguments[at] == "\\" else 1
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "," and depth == 0:
            parts.append(arguments[start:at].strip())
            start = at + 1
        at += 1
    last = arguments[start:].strip()
    return [*parts, last] if last else parts


def _no_prefix(source: ByteSource) -> None:
    return


def _fixed(width: int) -> Measure:
    return Measure(_no_prefix, lambda source, count: source.skip(width * count))


def _nullable(inner: str) -> Measure:
    measure = _measure(inner)

    def values(source: ByteSource, count: int) -> None:
        source.skip(count)  # one byte each: is it NULL
        measure.values(source, count)

    return Measure(measure.prefix, values)


def _array(inner: str) -> Measure:
    return _array_of(_measure(inner))


def _array_of(measure: Measure) -> Measure:
    def values(source: ByteSource, count: int) -> None:
        if count:
            source.skip(8 * (count - 1))
            total = source.uint64()  # the end of the last array: of offsets, only this one is needed
            if total > _ROW_LIMIT:
                raise ProtocolError(f"arrays of {total} elements")
            measure.values(source, total)

    return Measure(measure.prefix, values)


def _tuple(elements: list[str]) -> Measure:
    measures = [_measure(element.strip()) for element in elements]
    if not measures:
        return _fixed(1)

    def prefix(source: ByteSource) -> None:
        for measure in measures:
            measure.prefix(source)

    def values(source: ByteSource, count: int) -> None:
        for measure in measures:
            measure.values(source, count)

    return Measure(prefix, values)


def _low_cardinality(inner: str) -> Measure:
    # NULL is the dictionary's first entry: the dictionary itself is never Nullable.
    nullable = inner.startswith("Nullable(") and inner.endswith(")")
    measure = _measure(inner[len("Nullable(") : -1] if nullable else inner)

    def prefix(source: ByteSource) -> None:
        if source.uint64() != 1:
            raise ProtocolError("an unknown version of LowCardinality")

    def values(source: ByteSource, count: int) -> None:
        while count:
            flags = source.uint64()
            if flags & _SHARED_DICTIONARY or not flags & _DICTIONARY_KEYS or flags & 0xFF > 3:
                raise ProtocolError("a LowCardinality dictionary of an unknown kind")
            measure.values(source, source.uint64())
            rows = source.uint64()
            if not 0 < rows <= count:
                raise ProtocolError("a LowCardinality column of the wrong length")
            source.skip(rows << (flags & 0xFF))
            count -= rows

    return Measure(prefix, values)
