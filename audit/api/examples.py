"""Examples of every operation, for the OpenAPI description. A test holds their keys against real answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.api.permissions import OPERATIONS


@dataclass(frozen=True)
class Example:
    """`body`: of the request, None: it has none. `answer`: what comes back."""

    answer: Any
    body: Mapping[str, Any] | None = None
    media_type: str = "application/json"

    @property
    def is_json(self) -> bool:
        return self.media_type == "application/json"


EXAMPLES: Mapping[str, Example] = {name: Example({}) for name in OPERATIONS}
