"""Coded rows to the bytes of one ClickHouse Native block, a column at a time.

Pure: it opens no connection. The layout is that of ClickHouse's Native format and of the native protocol
(https://clickhouse.com/docs/interfaces/formats/Native); types: UUID, DateTime64, LowCardinality(String), also
Nullable, Enum8, Array(LowCardinality(String)), FixedString(16), String, Bool and unsigned integers, and
Nullable of the fixed-width ones. What repeats is encoded once per shape and gathered by code: nothing here runs
Python per row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from processors.coded import MISSING_TIME, Array, CodedRows

Codes = npt.NDArray[np.intp]
Parts = list[bytes | memoryview]
Gather = Callable[[Codes], Parts]

_POLARS_TYPES: dict[str, Any] = {"UInt8": pl.UInt8, "UInt16": pl.UInt16, "UInt32": pl.UInt32, "UInt64": pl.UInt64}
_NUMPY_TYPES = {"UInt8": "<u1", "UInt16": "<u2", "UInt32": "<u4", "UInt64": "<u8"}
_ENUM_ITEM = re.compile(r"'((?:[^'\\]|\\.)*)' = (-?\d+)")
# LowCardinality on the wire: the version of the keys' serialisation, then flags: the dictionary comes with the
# block (bit 9) and replaces any before it (bit 10); the low byte is the width of the keys.
_KEYS_VERSION = (1).to_bytes(8, "little")
_DICTIONARY_WITH_BLOCK = 1 << 9 | 1 << 10
_KEY_TYPES = ("<u1", "<u2", "<u4")


class ColumnError(ValueError):
    """A column cannot be written as the type that the table wants."""


class ShapeEncoder:
    """Encodes columns of shapes, and remembers those of the last shapes: the blocks of a batch share them."""

    def __init__(self) -> None:
        self._shapes: pl.DataFrame | None = None
        self._columns: dict[tuple[str, str], Gather] = {}

    def column(self, shapes: pl.DataFrame, name: str, type_: str) -> Gather:
        """What brings a column of the shapes to rows, by their codes."""
        if shapes is not self._shapes:
            self._shapes, self._columns = shapes, {}
        key = name, type_
        if key not in self._columns:
            self._columns[key] = _shape_column(shapes[name], type_)
        return self._columns[key]


def native_block(
    rows: CodedRows,
    columns: Sequence[tuple[str, str]],
    *,
    serialization_byte: bool = False,
    encoder: ShapeEncoder | None = None,
) -> Parts:
    """One Native block of all rows, as pieces in their order.

    columns: (name, ClickHouse type) in the order of the block; `rows` must have each.
    serialization_byte: put the byte for "no custom serialisation" before each column's data, as the protocol
        wants it from revision 54454 on; the format Native in files has none.
    encoder: one that is kept for several blocks spares encoding the shapes that they share.
    Null in a column that is not Nullable is written as the type's default. Raises ColumnError.
    """
    codes = rows.codes.astype(np.intp)
    encoder = encoder or ShapeEncoder()
    parts: Parts = [_varint(len(columns)), _varint(len(rows))]
    for name, type_ in columns:
        parts += [_text(name), _text(type_)]
        if serialization_byte:
            parts.append(b"\0")
        if not len(rows):
            continue
        try:
            if name in rows.rows:
                parts += _row_column(rows.rows[name], type_)
            else:
                parts += encoder.column(rows.shapes, name, type_)(codes)
        except (pl.exceptions.PolarsError, KeyError, ValueError) as error:
            raise ColumnError(f"column {name} cannot be written as {type_}: {error}") from error
    return parts


def _row_column(column: Array, type_: str) -> Parts:
    """A column that has one value per row."""
    if type_ == "UUID":
        # Two little-endian halves of 64 bits, the high one first.
        return [_raw(np.ascontiguousarray(column).view(">u8").astype("<u8"))]
    if type_ == "FixedString(16)":
        return [_raw(column)]
    if (inner := _inner("Nullable", type_)) and inner.startswith("DateTime64"):
        _require_milliseconds(inner)
        missing = column == MISSING_TIME
        return [_raw(missing), _raw(np.where(missing, 0, column))]
    if type_.startswith("DateTime64"):
        _require_milliseconds(type_)
        if missing := int((column == MISSING_TIME).sum()):
            raise ColumnError(f"{missing} rows have no time")
        return [_raw(column.astype("<i8", copy=False))]
    wanted = np.dtype(_NUMPY_TYPES[type_])
    if column.dtype != wanted and (column.min() < 0 or int(column.max()) > np.iinfo(wanted).max):
        raise ColumnError("a number is out of range")
    return [_raw(column.astype(wanted, copy=False))]


def _shape_column(series: pl.Series, type_: str) -> Gather:
    """A column of the shapes, to be brought to rows by code."""
    if inner := _inner("LowCardinality", type_):
        return _low_cardinality(series, inner)
    if inner := _inner("Array", type_):
        return _arrays(series, inner)
    if inner := _inner("Nullable", type_):
        nulls, values = series.is_null().to_numpy(), _fixed_width(series, inner)
        return lambda codes: [_raw(nulls.take(codes)), _raw(values.take(codes))]
    column = _fixed_width(series, type_)
    return lambda codes: [_raw(column.take(codes))]


def _fixed_width(series: pl.Series, type_: str) -> Array:
    """One value per shape; null becomes the type's default, which for Enum8 is its least number."""
    if type_.startswith("Enum8"):
        numbers = {name.replace("\\'", "'"): int(number) for name, number in _ENUM_ITEM.findall(type_)}
        coded = series.cast(pl.String).replace_strict(numbers, return_dtype=pl.Int8)
        return coded.fill_null(min(numbers.values())).to_numpy()
    if type_.startswith("DateTime64"):
        _require_milliseconds(type_)
        ticks = series.dt.epoch("ms") if series.dtype.is_temporal() else series.cast(pl.Int64)
        return ticks.fill_null(0).to_numpy()
    if type_ == "Bool":
        return series.cast(pl.Boolean).fill_null(False).to_numpy().astype(np.uint8)
    return series.cast(_POLARS_TYPES[type_]).fill_null(0).to_numpy()


def _low_cardinality(series: pl.Series, inner: str) -> Gather:
    keys, vocabulary = _vocabulary(series, nullable=inner == "Nullable(String)")
    dictionary = _dictionary(vocabulary)
    return lambda codes: [_KEYS_VERSION, dictionary, len(codes).to_bytes(8, "little"), _raw(keys.take(codes))]


def _arrays(series: pl.Series, inner: str) -> Gather:
    """Offsets behind each row's items, then the items of all rows as one LowCardinality column."""
    if inner != "LowCardinality(String)":
        raise ColumnError("only arrays of LowCardinality(String) are known")
    sizes = series.list.len().fill_null(0).to_numpy().astype(np.int32)
    items = series.filter(pl.Series(sizes > 0)).explode().cast(pl.String)
    keys, vocabulary = _vocabulary(items, nullable=False)
    dictionary = _dictionary(vocabulary)
    starts = np.cumsum(sizes, dtype=np.int32) - sizes

    def gather(codes: Codes) -> Parts:
        sizes_of_rows = sizes.take(codes)
        ends = np.cumsum(sizes_of_rows, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        if not total:
            return [_KEYS_VERSION, _raw(ends)]
        if total >= 2**31:
            raise ColumnError(f"{total} array items are too many for one block")
        # Where a row's items stand among the shapes' items: its shape's start, counted on from its own start.
        positions = np.repeat(starts.take(codes) - (ends.astype(np.int32) - sizes_of_rows), sizes_of_rows)
        positions += np.arange(total, dtype=np.int32)
        return [_KEYS_VERSION, _raw(ends), dictionary, total.to_bytes(8, "little"), _raw(keys.take(positions))]

    return gather


def _vocabulary(series: pl.Series, *, nullable: bool) -> tuple[Array, list[str]]:
    """Keys of the values, and the distinct values that they count, from 0. Nullable: key 0 is null."""
    text = series.cast(pl.String)
    if not nullable:
        text = text.fill_null("")
    distinct = text.drop_nulls().unique()
    # The fastest way found to number strings: as the physical form of an enumeration of them.
    keys = text.cast(pl.Enum(distinct)).to_physical().cast(pl.UInt32)
    vocabulary = distinct.to_list()
    if nullable:
        keys = (keys + 1).fill_null(0)
        vocabulary = ["", *vocabulary]
    return keys.to_numpy().astype(_KEY_TYPES[_key_width(len(vocabulary))]), vocabulary


def _dictionary(vocabulary: list[str]) -> bytes:
    """The dictionary as it stands in a block, up to the number of keys that follow. Keys that no row of the block has
    do no harm: the engine writes those that are used."""
    flags = _DICTIONARY_WITH_BLOCK | _key_width(len(vocabulary))
    return b"".join((np.array([flags, len(vocabulary)], dtype="<u8").tobytes(), *map(_text, vocabulary)))


def _key_width(size: int) -> int:
    """0, 1 or 2: keys of 1, 2 or 4 bytes."""
    return 0 if size <= 1 << 8 else 1 if size <= 1 << 16 else 2


def _require_milliseconds(type_: str) -> None:
    if not re.match(r"DateTime64\(3\b", type_):
        raise ColumnError("times are in milliseconds: DateTime64(3)")


def _inner(outer: str, type_: str) -> str | None:
    return type_[len(outer) + 1 : -1] if type_.startswith(outer + "(") else None


def _raw(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _varint(len(encoded)) + encoded


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
