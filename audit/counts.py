"""Counts of judged events as answers show them: by value, with their verdicts, the biggest first. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

VERDICTS = ("lawful", "violation", "gap")
Counts = Mapping[tuple[Any, ...], int]


def by_value(counts: Iterable[tuple[Any, str, int]]) -> dict[Any, dict[str, Any]]:
    """Value → `events` and `by_verdict`. counts: (value, verdict, events), values may come several times."""
    found: dict[Any, Counter[str]] = {}
    for value, verdict, events in counts:
        found.setdefault(value, Counter())[verdict] += events
    ordered = sorted(found.items(), key=lambda one: (-one[1].total(), str(one[0])))
    return {value: _shown(verdicts) for value, verdicts in ordered}


def none() -> dict[str, Any]:
    """The counts of what never occurred."""
    return _shown(Counter())


def _shown(verdicts: Mapping[str, int]) -> dict[str, Any]:
    return {"events": sum(verdicts.values()), "by_verdict": {name: verdicts.get(name, 0) for name in VERDICTS}}


def by_clause(counts: Counts) -> dict[str, dict[str, Any]]:
    """Clause → counts. counts: (clauses, verdict) → events; an event may cite several clauses."""
    cited = ((clause, verdict, n) for (clauses, verdict), n in counts.items() for clause in sorted(set(clauses)))
    return by_value(cited)


def by_month(counts: Counts) -> list[dict[str, Any]]:
    """`month`, `events`, `by_verdict`, by time. counts: (day, verdict) → events."""
    found = by_value((f"{day:%Y-%m}", verdict, n) for (day, verdict), n in counts.items())
    return [{"month": month, **found[month]} for month in sorted(found)]


def by_day(counts: Counts) -> list[dict[str, Any]]:
    """`day`, `events`, `by_verdict`, by time. counts: (day, verdict) → events."""
    found = by_value((day.isoformat(), verdict, n) for (day, verdict), n in counts.items())
    return [{"day": day, **found[day]} for day in sorted(found)]
