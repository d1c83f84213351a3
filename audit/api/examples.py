"""Examples of every operation for the OpenAPI description (examples.json). A test compares them with real answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import orjson


@dataclass(frozen=True)
class Example:
    """`body`: of the request, None: it has none. `answer`: what comes back."""

    answer: Any
    body: Mapping[str, Any] | None = None
    media_type: str = "application/json"

    @property
    def is_json(self) -> bool:
        return self.media_type == "application/json"


@cache
def examples() -> Mapping[str, Example]:
    """Operation → its example."""
    found = orjson.loads((files("audit.api") / "examples.json").read_bytes())
    return {operation: Example(**example) for operation, example in found.items()}
