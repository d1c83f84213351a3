"""The histories of `cases/own-cases.ndjson`: worked answers in the verdicts page's format, named by their clause."""

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "cases" / "own-cases.ndjson"


@cache
def own_cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
