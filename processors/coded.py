"""Dictionary-coded rows: many rows that share few distinct shapes.

In our streams most of a record's fields repeat from record to record, while ids and times do not. A batch is
therefore held as a few per-row arrays and one code per row into a small frame of distinct *shapes*, so that
whatever depends on the repeating fields only is computed once per shape.

Pure: it reads nothing, writes nothing, and never changes the arrays it was given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[Any]

MISSING_TIME = -(2**63)
"""A time that is not known, in an int64 column of milliseconds since 1970, UTC."""


@dataclass(frozen=True)
class CodedRows:
    """`n` rows.

    rows: per-row columns, `n` each: ids as uint8[n, 16], times as int64 ms (`MISSING_TIME`: none), numbers.
    codes: int32[n], for each row the number of its shape.
    shapes: the repeating fields, one row for each distinct shape (some may have no row). A row may have
        the same content as another: shapes are distinct for thrift, not as a promise.
    """

    rows: Mapping[str, Array]
    codes: npt.NDArray[np.int32]
    shapes: pl.DataFrame

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def columns(self) -> set[str]:
        """Names of all columns, per-row and per-shape."""
        return set(self.rows) | set(self.shapes.columns)

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]) -> CodedRows:
        """The rows of a mask (bool[n]) or of an index (integers), with the same shapes."""
        return CodedRows({k: v[which] for k, v in self.rows.items()}, self.codes[which], self.shapes)

    def compact(self) -> CodedRows:
        """The same rows, without the shapes that no row has."""
        used = np.zeros(self.shapes.height, dtype=bool)
        used[self.codes] = True
        if used.all():
            return self
        renumbered = np.cumsum(used, dtype=np.int32) - np.int32(1)
        return CodedRows(self.rows, renumbered[self.codes], self.shapes.filter(pl.Series(used)))

    def spread(self, names: Collection[str]) -> CodedRows:
        """The same rows, with those of the named columns that are per-shape made per-row.

        Times and whole numbers become int64 (times in ms; null is `MISSING_TIME`), binaries of 16 bytes
        uint8[n, 16] (null is zero).
        """
        spread = {
            name: _per_shape_array(self.shapes[name])[self.codes] for name in self.shapes.columns if name in names
        }
        if not spread:
            return self
        return CodedRows({**self.rows, **spread}, self.codes, self.shapes.drop(list(spread)))

    @staticmethod
    def concat(parts: Sequence[CodedRows]) -> CodedRows:
        """The rows of all parts in their order.

        A column that a part lacks is missing there: null among the shapes, `MISSING_TIME` in an int64
        column, and zero in any other per-row column. A column must be per-row in all parts that have it or
        per-shape in all of them; ValueError otherwise.
        """
        if len(parts) == 1:
            return parts[0]
        per_row = {name: column for part in parts for name, column in part.rows.items()}
        for part in parts:
            if mixed := per_row.keys() & set(part.shapes.columns):
                raise ValueError(f"columns {sorted(mixed)} are per-row in one part and per-shape in another")
        rows = {
            name: np.concatenate(
                [part.rows[name] if name in part.rows else _missing(like, len(part)) for part in parts]
            )
            for name, like in per_row.items()
        }
        starts = np.cumsum([0] + [part.shapes.height for part in parts[:-1]])
        codes = np.concatenate(
            [part.codes + np.int32(start) for part, start in zip(parts, starts, strict=True)]
        ).astype(np.int32, copy=False)
        return CodedRows(rows, codes, pl.concat([part.shapes for part in parts], how="diagonal_relaxed"))


def _missing(like: Array, n: int) -> Array:
    fill = MISSING_TIME if like.dtype == np.int64 else 0
    return np.full((n, *like.shape[1:]), fill, dtype=like.dtype)


def _per_shape_array(column: pl.Series) -> Array:
    if column.dtype == pl.Binary:
        values = b"".join(column.fill_null(bytes(16)).to_list())
        return np.frombuffer(values, dtype=np.uint8).reshape(len(column), 16)
    numbers = column.dt.epoch("ms") if column.dtype.is_temporal() else column
    return numbers.cast(pl.Int64).fill_null(MISSING_TIME).to_numpy()
