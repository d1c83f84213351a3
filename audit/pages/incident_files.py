"""The list of an incident as files: CSV for mail merges and spreadsheets, JSON with the summary. One person a line.

Pure. No cell of the CSV may run as a formula in a spreadsheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import orjson

from audit.exports.tables import csv_lines, guarded, joined

_COLUMNS = (
    "alias",
    "subject",
    "disclosures",
    "direct",
    "onward",
    "through",
    "during",
    "categories",
    "purposes",
    "first_at",
    "last_at",
)
_CHUNK = 2000
_LISTS = frozenset({"through", "categories", "purposes"})

Person = Mapping[str, Any]


def csv_file(people: Iterable[Person]) -> Iterator[bytes]:
    """people: as `audit.incident.affected_person` tells them."""
    yield csv_lines([_COLUMNS])
    for chunk in _chunks(people):
        yield csv_lines([_cell(name, person[name]) for name in _COLUMNS] for person in chunk)


def json_file(summary: Mapping[str, Any], people: Iterable[Person]) -> Iterator[bytes]:
    """One document: `summary` and `people`."""
    yield b'{"summary":' + orjson.dumps(summary) + b',"people":[\n'
    is_first = True
    for chunk in _chunks(people):
        yield (b"" if is_first else b",\n") + b",\n".join(map(orjson.dumps, chunk))
        is_first = False
    yield b"\n]}\n"


def _chunks(people: Iterable[Person]) -> Iterator[list[Person]]:
    left = iter(people)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _LISTS:
        return joined(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return guarded(value) if isinstance(value, str) else str(value)
