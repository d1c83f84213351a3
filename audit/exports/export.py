"""A person's lineage in the formats that others read: the one door to this package, for the command and the API.

Pure: what goes in has been asked for elsewhere, what comes out are bytes. Never holds a user id or an alias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit.exports.background import Background, Record, that_count
from audit.exports.consent_records import consent_records
from audit.exports.dpv import dpv_jsonld
from audit.exports.prov import prov_json
from audit.exports.report import report_json
from audit.exports.report_html import report_html
from audit.exports.tables import csv_table, parquet_table

Writer = Callable[[str | None, Sequence[Record], Background], Iterator[bytes]]


@dataclass(frozen=True)
class Format:
    """`suffix`: of the file name. `every_revision`: events of a lineage with all revisions are all written."""

    media_type: str
    suffix: str
    writer: Writer
    every_revision: bool = False


@dataclass(frozen=True)
class Export:
    """`content`: the document in pieces, made while they are read. `file_name`: names the subject, nobody else."""

    media_type: str
    file_name: str
    content: Iterator[bytes]


FORMATS: Mapping[str, Format] = {
    "csv": Format("text/csv; charset=utf-8; header=present", "csv", lambda _, e, b: csv_table(e, b), True),
    "parquet": Format("application/vnd.apache.parquet", "parquet", lambda _, e, b: parquet_table(e, b), True),
    "prov-json": Format("application/json", "prov.json", prov_json),
    "dpv-jsonld": Format("application/ld+json", "dpv.jsonld", dpv_jsonld),
    "iso27560": Format("application/json", "consent-records.json", consent_records),
    "report-html": Format("text/html; charset=utf-8", "report.html", report_html),
    "report-json": Format("application/json", "report.json", report_json),
}


def export_lineage(lineage: Mapping[str, Any], format_: str, background: Background) -> Export:
    """A lineage (`audit.subject.subject_lineage`) in a format (a key of `FORMATS`).

    Of a person who is not known the document is valid and empty. Raises `KeyError` of another format.
    """
    chosen = FORMATS[format_]
    subject: str | None = lineage["subject"]
    events = list(lineage["events"]) if chosen.every_revision else that_count(lineage)
    name = f"lineage-{subject or 'unknown'}.{chosen.suffix}"
    return Export(chosen.media_type, name, chosen.writer(subject, events, background))
