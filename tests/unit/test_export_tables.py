"""CSV and Parquet of a lineage: read back by the tools that they are for; nothing in a cell runs as a formula."""

import csv
import io
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet
import pytest

from audit.exports.export import export_lineage
from audit.exports.tables import COLUMNS
from tests.unit.exported_lives import START, background, life, lineage, row


@pytest.fixture(scope="module")
def person() -> dict[str, Any]:
    return lineage(life(60))


def content(person: dict[str, Any], format_: str) -> bytes:
    return b"".join(export_lineage(person, format_, background()).content)


def read_csv(document: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(document.decode(), newline=""), strict=True))


def test_csv_is_read_by_python_and_polars(person: dict[str, Any]) -> None:
    document = content(person, "csv")
    rows = read_csv(document)
    assert list(rows[0]) == [column.name for column in COLUMNS]
    assert [r["event_id"] for r in rows] == [event["event_id"] for event in person["events"]]
    assert document.count(b"\r\n") == len(rows) + 1
    frame = pl.read_csv(document, infer_schema_length=None)
    assert frame.height == len(rows)
    shared = next(r for r in rows if r["recipient"] == "lumen-analytics")
    assert (shared["recipient_name"], shared["recipient_contact"]) == ("Lumen Analytics", "privacy@lumen.example")
    assert (shared["purpose_clause"], shared["purpose_dpv"]) == ("2.3", "dpv:ServiceOptimisation")
    assert shared["data_categories"] == "user.device;user.telemetry"


def test_parquet_is_read_by_polars_arrow_and_duckdb(person: dict[str, Any], tmp_path: Any) -> None:
    file = tmp_path / "lineage.parquet"
    file.write_bytes(content(person, "parquet"))
    frame = pl.read_parquet(file)
    assert frame["event_id"].to_list() == [event["event_id"] for event in person["events"]]
    assert frame["occurred_at"][0] == START
    assert frame["data_categories"].to_list() == [event["data_categories"] for event in person["events"]]
    assert frame["verdict"].to_list() == [event["verdict"] for event in person["events"]]
    table = pyarrow.parquet.read_table(file)
    assert table.num_rows == len(person["events"])
    assert str(table.schema.field("occurred_at").type) == "timestamp[ms, tz=UTC]"
    counted = duckdb.sql(
        f"SELECT verdict, count(*) FROM '{file}' WHERE list_contains(data_categories, 'user.device') GROUP BY ALL"
    ).fetchall()
    expected = [e for e in person["events"] if "user.device" in e["data_categories"]]
    assert sum(count for _, count in counted) == len(expected) > 0


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("＝1", "'＝1"),
        ("'quoted", "''quoted"),
        ("a;=1", "a;'=1"),
        ('a",=1', 'a",\'=1'),
        ("a\r\n=1", "a\r\n'=1"),
        ("a-b", "a-b"),
        ("plain, \"text\"\nover lines", "plain, \"text\"\nover lines"),
    ],
)  # fmt: skip
def test_no_cell_runs_as_a_formula(value: str, written: str) -> None:
    person = lineage([row("collect", 1, event_type=value, fields=["ip"], region="CN", storage_country="CN")])
    [shown] = read_csv(content(person, "csv"))
    assert shown["event_type"] == written
    assert pl.read_parquet(content(person, "parquet"))["event_type"][0] == value


def test_a_value_of_a_list_may_hold_the_separator() -> None:
    person = lineage([row("collect", 1, event_type="app_open", fields=["a;b", "=c", "d\\"], region="CN")])
    [shown] = read_csv(content(person, "csv"))
    assert shown["fields"] == "a\\;b;'=c;d\\\\"


def test_of_every_revision_each_is_a_row() -> None:
    person = lineage([row("collect", 1, event_type="app_open", fields=["ip"], region="CN")])
    revised = {**person["events"][0], "revision": 1, "verdict": "lawful"}
    both = {**person, "events": [person["events"][0], revised]}
    assert [r["revision"] for r in read_csv(content(both, "csv"))] == ["0", "1"]
    assert pl.read_parquet(content(both, "parquet"))["revision"].to_list() == [0, 1]


def test_of_nobody_a_table_has_its_columns() -> None:
    nobody: dict[str, Any] = {"subject": None, "events": []}
    assert content(nobody, "csv").decode().strip().split(",") == [column.name for column in COLUMNS]
    frame = pl.read_parquet(content(nobody, "parquet"))
    assert (frame.height, frame.width) == (0, len(COLUMNS))
    assert frame.schema["occurred_at"] == pl.Datetime("ms", "UTC")
