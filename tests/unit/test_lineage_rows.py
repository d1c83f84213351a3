"""Records of the log as rows of the table."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from datetime import UTC, datetime
from importlib.resources import files

import numpy as np
import polars as pl
import pytest

from processors.coded import CodedRows
from sinks.clickhouse.rows import COLUMNS_OF_FIELDS, lineage_rows, split_by_month

MESSAGE = {"subject", "kafka_partition", "kafka_offset"}


def table_columns() -> Collection[str]:
    ddl = (files("sinks.clickhouse") / "migrations" / "0001_lineage.sql").read_text()
    return re.findall(r"^    (\w+) (?:\w+\(|\w+ |\w+,)", ddl.partition("INDEX")[0], flags=re.MULTILINE)


@pytest.mark.parametrize("record", sorted(COLUMNS_OF_FIELDS))
def test_every_field_of_the_contract_has_its_own_column(record: str) -> None:
    contract = json.loads((files("schemas") / "avro" / f"{record}.avsc").read_text())
    columns = COLUMNS_OF_FIELDS[record]
    assert columns.keys() == {field["name"] for field in contract["fields"]} | MESSAGE
    assert len(set(columns.values())) == len(columns)
    assert set(columns.values()) <= set(table_columns())


def test_every_column_is_filled_by_some_record() -> None:
    filled = {column for columns in COLUMNS_OF_FIELDS.values() for column in columns.values()}
    assert set(table_columns()) == filled | {"activity"}


def test_a_collection_keeps_what_was_given_apart_from_what_was_judged() -> None:
    shapes = pl.DataFrame(
        {"purpose": [None], "tagged_purpose": ["p"], "categories": [[]], "tagged_categories": [["c"]]}
    )
    rows = lineage_rows("CollectionRecorded", CodedRows({}, np.zeros(2, np.int32), shapes))
    assert rows.shapes.to_dicts() == [
        {
            "activity": "collect",
            "given_purpose": None,
            "purpose": "p",
            "given_categories": [],
            "data_categories": ["c"],
        }
    ]


def test_ids_times_and_numbers_are_per_row_however_they_came() -> None:
    shapes = pl.DataFrame({"phase": ["requested"], "revision": [0], "request_id": [b"r" * 16]})
    rows = lineage_rows("ErasureRecorded", CodedRows({"judged_at": np.array([7])}, np.zeros(1, np.int32), shapes))
    assert rows.shapes.to_dicts() == [{"activity": "erase", "erasure_phase": "requested"}]
    assert {name: column.tolist() for name, column in rows.rows.items()} == {
        "judged_at": [7],
        "revision": [0],
        "request_id": [list(b"r" * 16)],
    }


def test_a_strange_column_is_refused() -> None:
    with pytest.raises(ValueError, match="nickname"):
        lineage_rows("ConsentRecorded", CodedRows({}, np.zeros(1, np.int32), pl.DataFrame({"nickname": ["x"]})))


def test_months_are_split_in_utc_and_keep_their_order() -> None:
    times = ["2026-02-01T00:00:00", "2026-01-31T23:59:59.999", "1969-12-31T23:59:59", "2026-02-28T12:00:00"]
    ms = np.array([round(datetime.fromisoformat(t).replace(tzinfo=UTC).timestamp() * 1000) for t in times])
    shapes = pl.DataFrame({"source": ["a", "b"]})
    rows = CodedRows({"occurred_at": ms}, np.array([0, 1, 0, 0], np.int32), shapes)
    split = split_by_month(rows)
    assert [(month, part.rows["occurred_at"].tolist(), part.codes.tolist()) for month, part in split] == [
        (196912, [ms[2]], [0]),
        (202601, [ms[1]], [1]),
        (202602, [ms[0], ms[3]], [0, 0]),
    ]
    assert all(part.shapes is shapes for _, part in split), "what they share is encoded once"
    assert split_by_month(split[2][1])[0][1] is split[2][1], "one month is not copied"
    assert split_by_month(rows.take(np.zeros(4, bool))) == []
