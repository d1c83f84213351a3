"""Whether the current event contracts can follow the released ones: backward-transitive, by the `avro` package.

Backward: what was written under any released version is read by the current one (design §6). Reads schemas only.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import IgnoredLogicalType
from avro.schema import Schema as AvroSchema
from avro.schema import make_avsc_object

from schemas import schema_dir
from streams.contracts import Schema


@dataclass(frozen=True)
class Incompatibility:
    """`contract` as it is now cannot read what release `version` wrote, for these reasons."""

    contract: str
    version: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Compatibility:
    """What a check found. `compared`: pairs of a contract and a released version of it."""

    compared: int
    incompatible: tuple[Incompatibility, ...]


def check_released(folder: Path | None = None) -> Compatibility:
    """Compares every contract in `folder` (default: the project's `schemas/avro`) with all its released versions.

    A contract that was released and is no longer there is incompatible as well: its records could not be read.
    """
    folder = folder or schema_dir() / "avro"
    current = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.avsc")}
    compared = 0
    found = []
    for path in sorted((folder / "released").glob("*/*.avsc")):
        compared += 1
        if path.stem not in current:
            reasons: tuple[str, ...] = ("the contract was removed: its records could not be read any more",)
        else:
            reasons = incompatibilities(current[path.stem], json.loads(path.read_text("utf-8")))
        if reasons:
            found.append(Incompatibility(path.stem, path.parent.name, reasons))
    return Compatibility(compared, tuple(found))


def incompatibilities(reader: Schema, writer: Schema) -> tuple[str, ...]:
    """Why a reader of one schema cannot take what was written under the other; empty: it can."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(_parsed(reader), _parsed(writer))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return ()
    where = ", ".join(sorted(result.locations))
    return tuple(f"{message} (at {where})" for message in sorted(result.messages)) or (f"differs at {where}",)


def _parsed(schema: Schema) -> AvroSchema:
    # The package does not know logical types of later specifications (a UUID as `fixed`); they change no encoding.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IgnoredLogicalType)
        return make_avsc_object(schema)
