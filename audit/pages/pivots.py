"""Counts by period and by value, as the table that stands beside a chart, and as the chart's data. Pure.

Each number knows the URL of the events behind it, where the visitor may see them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from audit.pages.periods import Width, end_of, name_of, start_of

# (value, first day, day after the last one) → where its events are listed; None: the visitor may not see them. A value
# of None: of any value.
Link = Callable[[str | None, date | None, date | None], str | None]
# (day, value, events).
DayCount = tuple[date, str, int]


@dataclass(frozen=True)
class Cell:
    """`href`: the events that are counted."""

    events: int
    href: str | None


@dataclass(frozen=True)
class Row:
    """One period; its first day, and the day after its last one, within the range that was asked for."""

    name: str
    start: date
    end: date
    cells: tuple[Cell, ...]
    total: Cell


@dataclass(frozen=True)
class Pivot:
    """Rows by time, the newest first; columns by their totals. `labels`: what stands for each value."""

    width: Width
    values: tuple[str, ...]
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    totals: tuple[Cell, ...]
    total: Cell

    def chart(self) -> dict[str, Any]:
        """What bars.js draws: the labels of the series, and the bars of each, by time."""
        bars = [
            {
                "start": row.start.isoformat(),
                "end": row.end.isoformat(),
                "period": row.name,
                "series": label,
                "events": cell.events,
                "href": cell.href,
            }
            for row in reversed(self.rows)
            for label, cell in zip(self.labels, row.cells, strict=True)
            if cell.events
        ]
        return {"series": list(self.labels), "bars": bars}


def pivot(
    counts: Iterable[DayCount],
    totals: Mapping[date, int],
    width: Width,
    link: Link,
    since: date | None = None,
    until: date | None = None,
    label: Callable[[str], str] = str,
    order: Iterable[str] = (),
) -> Pivot:
    """counts: may hold one event several times, under several values; totals: day → events, each once. since, until:
    the range that was asked for, to which links are cut. order: values that come first, in this order."""
    by_value: Counter[str] = Counter()
    cells: Counter[tuple[date, str]] = Counter()
    for day, value, events in counts:
        by_value[value] += events
        cells[start_of(day, width), value] += events
    by_period: Counter[date] = Counter()
    for day, events in totals.items():
        by_period[start_of(day, width)] += events
    first = [value for value in order if value in by_value]
    values = (*first, *sorted(by_value.keys() - set(first), key=lambda value: (-by_value[value], value)))
    rows = []
    for start in sorted(by_period, reverse=True):
        begin = start if since is None else max(start, since)
        end = end_of(start, width) if until is None else min(end_of(start, width), until)
        found = tuple(Cell(n := cells[start, value], link(value, begin, end) if n else None) for value in values)
        rows.append(Row(name_of(start, width), begin, end, found, Cell(by_period[start], link(None, begin, end))))
    return Pivot(
        width,
        values,
        tuple(map(label, values)),
        tuple(rows),
        tuple(Cell(by_value[value], link(value, since, until)) for value in values),
        Cell(by_period.total(), link(None, since, until)),
    )
