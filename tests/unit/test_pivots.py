"""Counts by period and value: nothing is lost or counted twice, and every link covers what its number counts."""

from collections import Counter
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from audit.pages.periods import Width, end_of, name_of, start_of, width_for
from audit.pages.pivots import pivot

DAYS = st.dates(date(1970, 1, 1), date(2148, 12, 31))
WIDTHS: st.SearchStrategy[Width] = st.sampled_from(["day", "week", "month"])
VALUES = st.sampled_from(["2.1", "3.1(4)", "3.2"])


@given(DAYS, WIDTHS)
def test_periods_follow_each_other_without_a_gap(day: date, width: Width) -> None:
    start = start_of(day, width)
    assert start <= day < end_of(start, width)
    assert start_of(end_of(start, width), width) == end_of(start, width)
    assert {start_of(start + timedelta(days=n), width) for n in range((end_of(start, width) - start).days)} == {start}


def test_periods_have_names_that_people_know() -> None:
    day = date(2026, 12, 31)
    assert [name_of(start_of(day, width), width) for width in ("day", "week", "month")] == [
        "2026-12-31",
        "week of 2026-12-28",
        "2026-12",
    ]
    assert end_of(date(2026, 12, 1), "month") == date(2027, 1, 1)
    first = date(2026, 1, 1)
    assert [width_for(first, first + timedelta(days=n)) for n in (0, 61, 62, 399, 400)] == [
        "day",
        "day",
        "week",
        "week",
        "month",
    ]


@given(
    st.dictionaries(st.tuples(st.dates(date(2026, 1, 1), date(2026, 4, 1)), VALUES), st.integers(1, 9)),
    WIDTHS,
    st.none() | st.dates(date(2025, 12, 1), date(2026, 1, 1)),
    st.none() | st.dates(date(2026, 4, 2), date(2026, 5, 1)),
)
def test_every_number_is_what_its_link_asks_for(
    counts: dict[tuple[date, str], int], width: Width, since: date | None, until: date | None
) -> None:
    def count(value: str | None, first: date | None, last: date | None) -> int:
        return sum(
            n
            for (day, one), n in counts.items()
            if value in (None, one) and (first is None or day >= first) and (last is None or day < last)
        )

    totals: Counter[date] = Counter()
    for (day, _), n in counts.items():
        totals[day] += n
    # The link is the number itself, counted anew.
    found = pivot(
        ((day, value, n) for (day, value), n in counts.items()),
        totals,
        width,
        lambda value, first, last: str(count(value, first, last)),
        since,
        until,
    )
    for row in found.rows:
        assert row.total.href == str(row.total.events)
        assert all(cell.href == (str(cell.events) if cell.events else None) for cell in row.cells)
        assert row.start >= (since or row.start)
        assert row.end <= (until or row.end)
    assert [cell.href for cell in found.totals] == [str(cell.events) for cell in found.totals]
    assert found.total.events == sum(row.total.events for row in found.rows) == sum(counts.values())
    assert [row.start for row in found.rows] == sorted((row.start for row in found.rows), reverse=True)
    bars = found.chart()["bars"]
    assert sum(bar["events"] for bar in bars) == sum(counts.values())
    assert {bar["series"] for bar in bars} == set(found.labels)


def test_an_event_under_several_values_counts_once_in_all() -> None:
    day = date(2026, 3, 1)
    counts = [(day, "2.1", 2), (day, "3.1", 2)]
    found = pivot(counts, {day: 2}, "month", lambda *_: None, label=lambda value: f"clause {value}", order=["3.1"])
    [row] = found.rows
    assert (found.labels, [cell.events for cell in row.cells]) == (("clause 3.1", "clause 2.1"), [2, 2])
    assert (row.total.events, found.total.events) == (2, 2)
