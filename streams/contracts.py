"""The event contracts: Avro schemas by name and by fingerprint. Reads `schemas/avro`; never touches Kafka.

A fingerprint is CRC-64-AVRO over the Parsing Canonical Form (Avro specification, "Schema Fingerprints"). Every
released version is kept under `schemas/avro/released/<version>/`, so that what was written then is read for ever.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastavro import parse_schema
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas import schema_dir

Schema = dict[str, Any]


@dataclass(frozen=True)
class Contract:
    """One version of one record type: its short name (`DataShared`), its schema as written, and its fingerprint
    (8 bytes, little-endian)."""

    name: str
    schema: Schema
    fingerprint: bytes

    @property
    def parsed(self) -> Schema:
        """The schema as `fastavro` wants it."""
        return _parsed(self.fingerprint, json.dumps(self.schema))

    @property
    def field_names(self) -> list[str]:
        return [field["name"] for field in self.schema["fields"]]


@cache
def _parsed(_fingerprint: bytes, text: str) -> Schema:
    parsed: Any = parse_schema(json.loads(text))
    return dict(parsed)


def contract_of(schema: Schema) -> Contract:
    """The contract that a schema stands for. Raises `fastavro.schema.SchemaParseException` if it is none."""
    canonical = to_parsing_canonical_form(schema)
    # `fastavro` gives the fingerprint as hex of its little-endian bytes.
    return Contract(schema["name"].rsplit(".", 1)[-1], schema, bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO")))


def _load(path: Path) -> Contract:
    return contract_of(json.loads(path.read_text(encoding="utf-8")))


@cache
def contracts() -> dict[str, Contract]:
    """The current contracts by name."""
    return {path.stem: _load(path) for path in sorted((schema_dir() / "avro").glob("*.avsc"))}


@cache
def known_contracts() -> dict[bytes, Contract]:
    """The current and all released contracts by fingerprint."""
    released = (schema_dir() / "avro" / "released").glob("*/*.avsc")
    known = {contract.fingerprint: contract for contract in map(_load, sorted(released))}
    return known | {contract.fingerprint: contract for contract in contracts().values()}


def contract(name: str) -> Contract:
    """The current contract of a name, e.g. `TelemetryCollected`."""
    return contracts()[name]
