"""A person's events as a table: CSV for spreadsheets, Parquet for notebooks and warehouses. One row for each event.

Pure. No cell of the CSV may run as a formula in a spreadsheet; Parquet holds every value as it is.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import polars as pl

from audit.exports.background import Background, Record, instant

CHUNK_ROWS = 500
CHUNK_BYTES = 1 << 18

Kind = Literal["text", "texts", "time", "number", "flag"]


class Column(NamedTuple):
    """`kind`: text, texts (a list), time (UTC, milliseconds), number, flag. Every value may be missing but a list."""

    name: str
    kind: Kind
    doc: str
    value: Callable[[Record, Background], Any]


def _own(name: str) -> Callable[[Record, Background], Any]:
    return lambda event, _: event.get(name)


def _of_recipient(name: str) -> Callable[[Record, Background], Any]:
    def value(event: Record, background: Background) -> Any:
        if event["activity"] == "consent":
            return None
        at = instant(event["occurred_at"])
        entry = background.entry(event["recipient"], at) or background.newest_entry(event["recipient"])
        return None if entry is None else entry[name] or None

    return value


def _of_purpose(name: str) -> Callable[[Record, Background], Any]:
    def value(event: Record, background: Background) -> Any:
        rule = background.purpose_of(event)
        return None if rule is None else rule[name]

    return value


COLUMNS = (
    Column("event_id", "text", "Id of the event, a UUID.", _own("event_id")),
    Column("occurred_at", "time", "When it happened.", _own("occurred_at")),
    Column("activity", "text", "collect, share, transfer, publish, consent or erase.", _own("activity")),
    Column("event_type", "text", "Collections: the kind of event in the app.", _own("event_type")),
    Column("discloser", "text", "Disclosures: who passed it on; `self`: the app.", _own("discloser")),
    Column("recipient", "text", "Who received it; of a consent: an id, `kind:K`, `*`.", _own("recipient")),
    Column("recipient_name", "text", "Its name in the registry then.", _of_recipient("name")),
    Column("recipient_contact", "text", "Its data protection contact.", _of_recipient("contact")),
    Column("recipient_kind", "text", "affiliate, partner, authority, successor, public.", _own("recipient_kind")),
    Column("recipient_country", "text", "Where it keeps data (ISO 3166-1).", _of_recipient("country")),
    Column("hop", "number", "How many disclosures from the app to the recipient; 0: given by the person.", _own("hop")),
    Column("purpose", "text", "What for: the policy's purpose by which it was judged.", _own("purpose")),
    Column("given_purpose", "text", "The purpose as the source stated it.", _own("given_purpose")),
    Column("purpose_clause", "text", "The clause that states the purpose.", _of_purpose("clause")),
    Column("purpose_data_use", "text", "The purpose as a fideslang data use.", _of_purpose("data_use")),
    Column("purpose_dpv", "text", "The purpose as a W3C DPV term.", _of_purpose("dpv")),
    Column("data_categories", "texts", "What: fideslang keys, all that were judged.", _own("data_categories")),
    Column("given_categories", "texts", "The categories as the source stated them.", _own("given_categories")),
    Column("fields", "texts", "Names of collected fields, never contents.", _own("fields")),
    Column("region", "text", "Where it was collected (ISO 3166-1).", _own("region")),
    Column("storage_country", "text", "Where a collection is stored.", _own("storage_country")),
    Column("collected_at", "time", "Disclosures: when the data had been collected.", _own("collected_at")),
    Column("legal_order", "text", "Reference of the order that asked for it.", _own("legal_order")),
    Column("legal_basis", "text", "explicit_consent, policy_acceptance, legal_obligation, none.", _own("legal_basis")),
    Column("verdict", "text", "lawful, violation or gap; none for consents and erasures.", _own("verdict")),
    Column("clauses", "texts", "The clauses that decided.", _own("clauses")),
    Column("findings", "texts", "`outcome clause reason` of everything that stands against it.", _own("findings")),
    Column("policy_version", "number", "The policy in force.", _own("policy_version")),
    Column("sensitive", "flag", "Of a person under 14.", _own("sensitive")),
    Column("consents", "texts", "Ids of the consents that the verdict rests on.", _own("consents")),
    Column("consent_action", "text", "accept, leave, age, guardian, grant, withdraw.", _own("consent_action")),
    Column("consent_version", "number", "accept: the policy version.", _own("consent_version")),
    Column("consent_activity", "text", "grant, withdraw: use, share, transfer, publish.", _own("consent_activity")),
    Column("age_band", "text", "age: adult, 14_17, under_14.", _own("age_band")),
    Column("guardian_granted", "flag", "guardian: yes or no.", _own("guardian_granted")),
    Column("erasure_phase", "text", "erase: requested or completed.", _own("erasure_phase")),
    Column("request_id", "text", "erase: the request.", _own("request_id")),
    Column("revision", "number", "0: the first verdict; higher: revised when a late fact came.", _own("revision")),
    Column("judged_at", "time", "When the verdict was given.", _own("judged_at")),
    Column("source", "text", "Where the event came from.", _own("source")),
)  # fmt: skip

_TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "text": pl.String,
    "texts": pl.List(pl.String),
    "time": pl.Datetime("ms", "UTC"),
    "number": pl.Int64,
    "flag": pl.Boolean,
}

# What a spreadsheet takes for the beginning of a formula, in wide letters too, at the beginning of a cell or where a
# program of another locale begins the next one. An apostrophe is guarded as well: so one can always be taken away.
_FORMULA = re.compile(r"(^|[;,|\t\r\n\"]\s*)(?=['=+\-@\t\r＝＋－＠])")


def csv_table(events: Sequence[Record], background: Background) -> Iterator[bytes]:
    """RFC 4180 in UTF-8 with a header. The values of a list are joined by `;` (`\\;` within a value)."""
    yield csv_lines([[column.name for column in COLUMNS]])
    for start in range(0, len(events), CHUNK_ROWS):
        yield csv_lines(
            [_cell(column, column.value(event, background)) for column in COLUMNS]
            for event in events[start : start + CHUNK_ROWS]
        )


def parquet_table(events: Sequence[Record], background: Background) -> Iterator[bytes]:
    """Parquet, compressed with zstd; times are timestamps in UTC, lists are lists."""
    frame = pl.DataFrame(
        {column.name: [_typed(column, column.value(event, background)) for event in events] for column in COLUMNS},
        schema={column.name: _TYPES[column.kind] for column in COLUMNS},
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    view = buffer.getvalue()
    for start in range(0, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]


def _typed(column: Column, value: Any) -> Any:
    if column.kind == "texts":
        return list(value or ())
    return datetime.fromisoformat(value) if column.kind == "time" and value is not None else value


def csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows of RFC 4180, in UTF-8. Cells with text of others must be `guarded`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return ""
    match column.kind:
        case "texts":
            return joined(value)
        case "flag":
            return "true" if value else "false"
        case "text":
            return guarded(value)
    return str(value)


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return _FORMULA.sub(r"\1'", text)


def joined(texts: Iterable[str]) -> str:
    """A list as one cell, guarded."""
    return guarded(";".join(one.replace("\\", "\\\\").replace(";", "\\;") for one in texts))
