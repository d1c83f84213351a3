"""Erasure requests in numbers, for metrics, and whose an open request is. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from clickhouse_driver import Client

from sinks.clickhouse.client import execute

_STATES = "SELECT state, count() FROM erasure_requests FINAL GROUP BY state"
_ALARMS = "SELECT sum(length(alarms)) FROM erasure_requests FINAL"
_DUE = """
SELECT bound, countIf(due_at < now64(3) + toIntervalSecond(bound))
FROM (SELECT due_at FROM erasure_requests FINAL WHERE isNull(ended_at) AND isNotNull(due_at)) AS open
CROSS JOIN (SELECT arrayJoin(%(bounds)s) AS bound) AS bounds
GROUP BY bound ORDER BY bound
"""
_DUE_SUM = """
SELECT sum(dateDiff('second', now64(3), due_at)) FROM erasure_requests FINAL
WHERE isNull(ended_at) AND isNotNull(due_at)
"""
_TARGETS = """
SELECT target_state, grade, count() FROM erasure_requests FINAL
ARRAY JOIN targets.state AS target_state, targets.grade AS grade
GROUP BY target_state, grade
"""
_ALIAS = "SELECT hex(alias) FROM erasing WHERE request_id = %(request_id)s LIMIT 1"


@dataclass(frozen=True)
class ErasureOverview:
    """`states`: requests by state. Of the open ones that have a term: `due`: how many, `due_sum`: the seconds that are
    left to all of them together, `overdue`: those past it, `due_within`: those that end within so many seconds.
    `targets`: of all requests, by (state, grade). `alarms`: contradictions."""

    states: dict[str, int] = field(default_factory=dict)
    due: int = 0
    due_sum: int = 0
    overdue: int = 0
    due_within: dict[int, int] = field(default_factory=dict)
    targets: dict[tuple[str, str], int] = field(default_factory=dict)
    alarms: int = 0


def erasure_overview(client: Client, bounds: Sequence[int]) -> ErasureOverview:
    """The numbers as they stand now. `bounds`: seconds until the term ends. Raises ClickHouseError."""
    # So far in the future that all of them are.
    ever = 1_000_000_000
    asked = sorted({0, *bounds, ever})
    due = dict.fromkeys(asked, 0) | dict(execute(client, _DUE, {"bounds": asked}))
    return ErasureOverview(
        dict(execute(client, _STATES)),
        due[ever],
        int(execute(client, _DUE_SUM)[0][0] or 0),
        due[0],
        {bound: due[bound] for bound in bounds},
        {(state, grade): count for state, grade, count in execute(client, _TARGETS)},
        int(execute(client, _ALARMS)[0][0]),
    )


def alias_of_open_request(client: Client, request_id: UUID) -> bytes | None:
    """The alias (16 bytes) whose erasure a request is, while it is open, else None. Raises ClickHouseError."""
    # The table is small: it holds open requests only.
    rows = execute(client, _ALIAS, {"request_id": request_id})
    return bytes.fromhex(rows[0][0]) if rows else None
