"""Days, weeks and months of a range of days (UTC). Pure."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

Width = Literal["day", "week", "month"]

_MOST_DAYS = 62
_MOST_WEEKS_OF_DAYS = 400


def width_for(first: date, last: date) -> Width:
    """So that there are neither too few periods nor too many of them."""
    days = (last - first).days + 1
    return "day" if days <= _MOST_DAYS else "week" if days <= _MOST_WEEKS_OF_DAYS else "month"


def start_of(day: date, width: Width) -> date:
    """The first day of its period; weeks begin on Monday."""
    match width:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)


def end_of(start: date, width: Width) -> date:
    """The day after the period that begins so."""
    match width:
        case "day":
            return start + timedelta(days=1)
        case "week":
            return start + timedelta(days=7)
        case "month":
            return date(start.year + start.month // 12, start.month % 12 + 1, 1)


def name_of(start: date, width: Width) -> str:
    """`2026-03-02`, `week of 2026-03-02`, `2026-03`."""
    match width:
        case "day":
            return start.isoformat()
        case "week":
            return f"week of {start.isoformat()}"
        case "month":
            return f"{start:%Y-%m}"
