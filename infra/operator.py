"""Who runs the app, as they say in `operator.yaml`: for reports and consent records. Reads the file, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from audit.exports.background import Operator
from schemas import schema_dir
from streams.documents import load_document

FILE = "operator.yaml"


def read_operator(path: Path) -> Operator:
    """Raises `DocumentError` with every problem and its line, `OSError`."""
    schema = json.loads((schema_dir() / "exports" / "operator.schema.json").read_text(encoding="utf-8"))
    return Operator.from_document(load_document(path, schema))


def operator_of(data: Path, given: Path | None = None) -> Operator:
    """The operator in the file that is given, else in the data directory's; where there is none, nothing is said.

    Raises as `read_operator` does.
    """
    path = given or data / FILE
    return read_operator(path) if given or path.exists() else Operator()
