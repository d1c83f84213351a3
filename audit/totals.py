"""How much of what: all events counted by activity, verdict, clause and recipient.

Reads only, and names no person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from clickhouse_driver import Client

from audit.subject import DISCLOSURES
from sinks.clickhouse.queries import Count, count_events, count_subjects


def totals(client: Client, counted: Iterable[Count] | None = None) -> dict[str, Any]:
    """Counts of events, each once, by the revision that counts; ready for JSON.

    counted: what was counted already; None: it is counted now.

    `events`: collections, disclosures and consents. `subjects`: people who have rows. `by_activity`: value to count,
    erasure markers too. `by_verdict` and `by_clause`: collections and disclosures (an event may cite more than one
    clause). `by_recipient`: disclosures that name one. The biggest first. Raises ClickHouseError.
    """
    by_activity: Counter[str] = Counter()
    by_verdict: Counter[str] = Counter()
    by_clause: Counter[str] = Counter()
    by_recipient: Counter[str] = Counter()
    for count in count_events(client) if counted is None else counted:
        by_activity[count.activity] += count.events
        if count.verdict != "none":
            by_verdict[count.verdict] += count.events
        for clause in set(count.clauses):
            by_clause[clause] += count.events
        if count.activity in DISCLOSURES and count.recipient is not None:
            by_recipient[count.recipient] += count.events
    return {
        "events": by_activity.total() - by_activity["erase"],
        "subjects": count_subjects(client),
        "by_activity": dict(by_activity.most_common()),
        "by_verdict": dict(by_verdict.most_common()),
        "by_clause": dict(by_clause.most_common()),
        "by_recipient": dict(by_recipient.most_common()),
    }
