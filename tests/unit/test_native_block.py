"""Native blocks, read back by the driver's own reader, value by value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import polars as pl
import pytest
from clickhouse_driver.block import BlockInfo
from clickhouse_driver.bufferedreader import CompressedBufferedReader
from clickhouse_driver.bufferedwriter import CompressedBufferedWriter
from clickhouse_driver.connection import ServerInfo
from clickhouse_driver.context import Context
from clickhouse_driver.defines import DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION
from clickhouse_driver.streams.native import BlockInputStream
from hypothesis import given
from hypothesis import strategies as st

from processors.coded import MISSING_TIME, CodedRows
from sinks.clickhouse.native import ColumnError, native_block

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENUM = "Enum8('none' = 0, 'lawful' = 1, 'it\\'s' = 2)"


class _Bytes(list[bytes]):
    """What the driver's buffered writer writes to."""

    write = list.append


def read_back(rows: CodedRows, columns: list[tuple[str, str]], revision: int = 54429) -> dict[str, list[Any]]:
    """Column name to values, as clickhouse-driver reads them from a server of that revision."""
    context = Context()
    context.server_info = ServerInfo("ClickHouse", 26, 9, 2, revision, "UTC", "", revision)
    context.client_settings = {"use_numpy": False, "strings_as_bytes": False, "strings_encoding": "utf-8"}
    parts = native_block(rows, columns, serialization_byte=revision >= DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION)
    written = _Bytes()
    writer = CompressedBufferedWriter(written, 1024)
    BlockInfo().write(writer)
    writer.flush()
    chunks = iter([*written, b"".join(parts), b"the end"])
    reader = CompressedBufferedReader(lambda: next(chunks), 1024)
    block = BlockInputStream(reader, context).read()
    assert reader.read(7) == b"the end", "the block is longer or shorter than what a reader takes"
    assert block.columns_with_types == columns
    return {name: list(values) for (name, _), values in zip(columns, block.get_columns(), strict=True)}


def coded(codes: list[int], shapes: dict[str, Any], **rows: Any) -> CodedRows:
    return CodedRows(rows, np.array(codes, dtype=np.int32), pl.DataFrame(shapes, strict=False))


@pytest.mark.parametrize("revision", [54429, 54453, 54454, 54468])
def test_every_type_is_read_back(revision: int) -> None:
    ids = np.arange(48, dtype=np.uint8).reshape(3, 16)
    rows = coded(
        [1, 0, 1],
        {
            "low": ["a", None],
            "low_null": [None, "ä"],
            "enum": ["it's", None],
            "array": [["x", "y", "x"], []],
            "number": [7, None],
            "flag": [True, None],
            "flag_null": [None, True],
            "shape_time": [1_000, None],
        },
        id=ids,
        time=np.array([0, 1, -1], dtype=np.int64),
        time_null=np.array([5, MISSING_TIME, 6], dtype=np.int64),
        offset=np.array([0, 1, 2**63], dtype=np.uint64),
        partition=np.array([1, 2, 65535], dtype=np.int64),
    )
    columns = [
        ("low", "LowCardinality(String)"),
        ("low_null", "LowCardinality(Nullable(String))"),
        ("enum", ENUM),
        ("array", "Array(LowCardinality(String))"),
        ("number", "UInt64"),
        ("flag", "Bool"),
        ("flag_null", "Nullable(Bool)"),
        ("shape_time", "Nullable(DateTime64(3, 'UTC'))"),
        ("id", "UUID"),
        ("time", "DateTime64(3, 'UTC')"),
        ("time_null", "Nullable(DateTime64(3, 'UTC'))"),
        ("offset", "UInt64"),
        ("partition", "UInt16"),
    ]
    ms = timedelta(milliseconds=1)
    assert read_back(rows, columns, revision) == {
        "low": ["", "a", ""],
        "low_null": ["ä", None, "ä"],
        "enum": ["none", "it's", "none"],
        "array": [[], ["x", "y", "x"], []],
        "number": [0, 7, 0],
        "flag": [False, True, False],
        "flag_null": [True, None, True],
        "shape_time": [None, EPOCH + 1000 * ms, None],
        "id": [UUID(bytes=row.tobytes()) for row in ids],
        "time": [EPOCH, EPOCH + ms, EPOCH - ms],
        "time_null": [EPOCH + 5 * ms, None, EPOCH + 6 * ms],
        "offset": [0, 1, 2**63],
        "partition": [1, 2, 65535],
    }


@pytest.mark.parametrize("distinct", [1, 255, 256, 257, 65_536, 65_537])
def test_keys_are_as_wide_as_the_vocabulary_needs(distinct: int) -> None:
    values = [f"value {i}" for i in range(distinct)]
    rows = coded(list(range(distinct)), {"low": values, "low_null": values, "array": [[v] for v in values]})
    columns = [
        ("low", "LowCardinality(String)"),
        ("low_null", "LowCardinality(Nullable(String))"),
        ("array", "Array(LowCardinality(String))"),
    ]
    assert read_back(rows, columns) == {"low": values, "low_null": values, "array": [[v] for v in values]}


texts = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=200)
shape = st.tuples(st.none() | texts, st.lists(texts, max_size=6), st.none() | st.booleans())


@given(st.lists(shape, min_size=1, max_size=20), st.data())
def test_any_shapes_in_any_order(shapes: list[tuple[Any, ...]], data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, len(shapes) - 1), min_size=1, max_size=50))
    text, array, flag = (list(column) for column in zip(*shapes, strict=True))
    frame = pl.DataFrame(
        {"low": text, "low_null": text, "array": array, "flag": flag},
        schema={"low": pl.String, "low_null": pl.String, "array": pl.List(pl.String), "flag": pl.Boolean},
    )
    columns = [
        ("low", "LowCardinality(String)"),
        ("low_null", "LowCardinality(Nullable(String))"),
        ("array", "Array(LowCardinality(String))"),
        ("flag", "Nullable(Bool)"),
    ]
    assert read_back(CodedRows({}, np.array(codes, dtype=np.int32), frame), columns) == {
        "low": [text[c] or "" for c in codes],
        "low_null": [text[c] for c in codes],
        "array": [array[c] for c in codes],
        "flag": [flag[c] for c in codes],
    }


def test_decoded_avro_types_are_taken() -> None:
    """Enums come as categories, times as datetimes, from the columnar decoder."""
    frame = pl.DataFrame(
        {
            "verdict": pl.Series(["lawful", None], dtype=pl.Categorical),
            "at": pl.Series([datetime(2026, 1, 1), None], dtype=pl.Datetime("ms")),
        }
    )
    columns = [("verdict", ENUM), ("at", "Nullable(DateTime64(3, 'UTC'))")]
    assert read_back(CodedRows({}, np.array([1, 0], dtype=np.int32), frame), columns) == {
        "verdict": ["none", "lawful"],
        "at": [None, datetime(2026, 1, 1, tzinfo=UTC)],
    }


@pytest.mark.parametrize(
    ("rows", "type_"),
    [
        (coded([0], {"c": ["unheard of"]}), ENUM),
        (coded([0], {"c": [-1]}), "UInt64"),
        (coded([0], {"c": [70_000]}), "UInt16"),
        (coded([0], {"c": ["text"]}), "UInt64"),
        (coded([0], {}), "UInt64"),
        (coded([0], {"c": ["text"]}), "Decimal(9, 2)"),
        (coded([0], {}, c=np.array([MISSING_TIME])), "DateTime64(3, 'UTC')"),
        (coded([0], {}, c=np.array([1])), "DateTime64(6, 'UTC')"),
        (coded([0], {}, c=np.array([70_000])), "UInt16"),
        (coded([0], {}, c=np.array([-1])), "UInt64"),
    ],
)
def test_what_does_not_fit_is_refused(rows: CodedRows, type_: str) -> None:
    with pytest.raises(ColumnError, match="column c"):
        native_block(rows, [("c", type_)])
