"""Where the events behind a number are listed, for those who may see them."""

from __future__ import annotations

from datetime import date
from typing import Any

from audit.pages.rendering import query
from audit.pages.visits import Visit


class EventLinks:
    """URLs of /events. Each is None for a visitor who may not list events: then a number is shown without a link."""

    def __init__(self, visit: Visit) -> None:
        self._is_open = visit.may("events")

    def __call__(self, since: date | None = None, until: date | None = None, **wanted: Any) -> str | None:
        """The list with this filter. since, until: days, the end excluded."""
        if not self._is_open:
            return None
        days = {
            "from": None if since is None else since.isoformat(),
            "to": None if until is None else until.isoformat(),
        }
        return f"/events{query(wanted, **days)}"
