"""The records of the topic `lineage` as rows of the table `lineage`, and their months.

Pure. The mapping is one place: contract field (schemas/avro/*Recorded.avsc) to table column
(migrations/0001_lineage.sql). A test holds that every field of every record has its column.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from processors.coded import CodedRows

_SAME = ("event_id", "occurred_at", "revision", "judged_at")
_KAFKA = ("subject", "kafka_partition", "kafka_offset")
_TAGS = {
    "source": "source",
    "purpose": "given_purpose",
    "tagged_purpose": "purpose",
    "categories": "given_categories",
    "tagged_categories": "data_categories",
    "region": "region",
    "verdict": "verdict",
    "clauses": "clauses",
    "legal_basis": "legal_basis",
    "findings": "findings",
    "policy_version": "policy_version",
    "sensitive": "sensitive",
}


def _fields(*same: str, **renamed: str) -> dict[str, str]:
    return {name: name for name in (*_SAME, *_KAFKA, *same)} | renamed


COLUMNS_OF_FIELDS: Mapping[str, Mapping[str, str]] = {
    "CollectionRecorded": _fields("event_type", "fields", "storage_country", **_TAGS),
    "DisclosureRecorded": _fields(
        "collected_at",
        "activity",
        "discloser",
        "recipient",
        "recipient_kind",
        "recipient_effective_at",
        order="legal_order",
        **_TAGS,
    ),
    "ConsentRecorded": _fields(
        "purpose",
        "recipient",
        "source",
        action="consent_action",
        version="consent_version",
        band="age_band",
        granted="guardian_granted",
        activity="consent_activity",
        categories="data_categories",
    ),
    "ErasureRecorded": _fields("request_id", phase="erasure_phase"),
}
"""Record name to {field: column}. The last three of the common fields are the message's own: key and offset."""

_ACTIVITY = {"CollectionRecorded": "collect", "ConsentRecorded": "consent", "ErasureRecorded": "erase"}
_PER_ROW = (*_KAFKA, "event_id", "occurred_at", "collected_at", "request_id", "revision", "judged_at")


def lineage_rows(record: str, coded: CodedRows) -> CodedRows:
    """Rows of the table from decoded records of one kind.

    record: name of the contract, e.g. `CollectionRecorded`.
    coded: the record's fields, per-row or per-shape as they come, and with them `subject` (the message's
        key, uint8[n, 16]), `kafka_partition` and `kafka_offset`.
    Raises ValueError when `coded` has a column that is no field of the record.
    """
    columns = COLUMNS_OF_FIELDS[record]
    if strange := coded.columns - columns.keys():
        raise ValueError(f"{record} has no fields {sorted(strange)}")
    shapes = coded.shapes.rename({name: columns[name] for name in coded.shapes.columns})
    if activity := _ACTIVITY.get(record):
        shapes = pl.DataFrame({"activity": pl.repeat(activity, max(shapes.height, 1), eager=True)}).hstack(shapes)
    rows = {columns[name]: column for name, column in coded.rows.items()}
    return CodedRows(rows, coded.codes, shapes).spread(_PER_ROW)


def split_by_month(rows: CodedRows) -> list[tuple[int, CodedRows]]:
    """(yyyymm, the rows of that month), months ascending, rows in their order.

    The months are those of the table's partitions: toYYYYMM of `occurred_at` in UTC.
    """
    if not len(rows):
        return []
    months = rows.rows["occurred_at"].astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    first = int(months.min())
    if first == int(months.max()):
        return [(_yyyymm(first), rows)]
    # All keep the shapes that they share: whoever encodes them does it once.
    return [(_yyyymm(int(month)), rows.take(np.flatnonzero(months == month))) for month in np.unique(months)]


def _yyyymm(months_since_1970: int) -> int:
    return (1970 + months_since_1970 // 12) * 100 + months_since_1970 % 12 + 1
