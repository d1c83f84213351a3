"""Dictionary-coded rows behave as the plain rows they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.coded import MISSING_TIME, CodedRows


def expanded(rows: CodedRows) -> list[dict[str, Any]]:
    """The rows as plain dicts."""
    shapes = rows.shapes.to_dicts() if rows.shapes.width else [{} for _ in range(int(rows.codes.max(initial=-1)) + 1)]
    return [
        shapes[code] | {name: column[i].tolist() for name, column in rows.rows.items()}
        for i, code in enumerate(rows.codes.tolist())
    ]


def some(n: int, shapes: int, name: str = "text") -> CodedRows:
    frame = pl.DataFrame({name: [f"{name} {i}" for i in range(shapes)]})
    return CodedRows({"at": np.arange(n)}, (np.arange(n) * 7 % shapes).astype(np.int32), frame)


@given(st.integers(1, 30), st.integers(1, 9), st.data())
def test_take_and_compact_keep_the_rows(n: int, shapes: int, data: st.DataObject) -> None:
    rows = some(n, shapes)
    which = data.draw(st.lists(st.integers(0, n - 1)))
    taken = rows.take(np.array(which, dtype=np.int64))
    assert expanded(taken) == [expanded(rows)[i] for i in which]
    assert expanded(taken.compact()) == expanded(taken)
    assert taken.compact().shapes.height == len(set(taken.codes.tolist()))
    mask = np.isin(np.arange(n), which)
    assert expanded(rows.take(mask)) == [row for row, kept in zip(expanded(rows), mask, strict=True) if kept]


def test_concat_fills_what_a_part_lacks() -> None:
    first = CodedRows({"id": np.ones((1, 16), np.uint8)}, np.array([0], np.int32), pl.DataFrame({"a": ["x"]}))
    second = CodedRows({"at": np.array([5])}, np.array([0], np.int32), pl.DataFrame({"b": [["y"]]}))
    assert expanded(CodedRows.concat([first, second])) == [
        {"id": [1] * 16, "at": MISSING_TIME, "a": "x", "b": None},
        {"id": [0] * 16, "at": 5, "a": None, "b": ["y"]},
    ]


def test_concat_of_many_keeps_every_row() -> None:
    parts = [some(10, 3), some(4, 2, "other"), some(7, 7)]
    joined = expanded(CodedRows.concat(parts))
    plain = [row for part in parts for row in expanded(part)]
    assert [{k: v for k, v in row.items() if v is not None} for row in joined] == plain


def test_concat_refuses_a_column_of_two_kinds() -> None:
    with pytest.raises(ValueError, match="text"):
        CodedRows.concat([some(1, 1), CodedRows({"text": np.zeros(1)}, np.zeros(1, np.int32), pl.DataFrame())])


def test_spread_makes_shape_columns_per_row() -> None:
    frame = pl.DataFrame(
        {"revision": [3, None], "id": [b"0123456789abcdef", None], "at": pl.Series([9, None], dtype=pl.Datetime("ms"))}
    )
    rows = CodedRows({}, np.array([1, 0], np.int32), frame).spread(["revision", "id", "at", "absent"])
    assert rows.shapes.columns == []
    assert rows.rows["revision"].tolist() == [MISSING_TIME, 3]
    assert rows.rows["at"].tolist() == [MISSING_TIME, 9]
    assert [row.tobytes() for row in rows.rows["id"]] == [bytes(16), b"0123456789abcdef"]
