"""People's lives written into the real table `lineage`, row by row, for tests of erasures that nobody asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from clickhouse_driver import Client

from processors.case import DAY_MS as DAY
from processors.knowledge import ERASURE_CAUSES, ErasureCause, Knowledge, Policy, Purpose, Recipient
from streams.workflows.births import due_people

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
START = int(EPOCH.timestamp() * 1000)
NOW = START + 100 * DAY
GRACE = 10
PURPOSES = {
    "service": Purpose("2.1", "policy_acceptance", ("*",)),
    "security": Purpose("2.4", "policy_acceptance", ("*",), 40),
    "ads": Purpose("2.6", "opt_out", ("*",), 20),
}
POLICY = Policy(
    1, 0, PURPOSES, ("*",), retention={"user.device": 30}, erasure={c: ErasureCause(c, GRACE) for c in ERASURE_CAUSES}
)
RECIPIENTS = [
    Recipient("heir", "successor", 0),
    Recipient("mended", "successor", 0),
    Recipient("mended", "successor", START + 90 * DAY, pledge=True),
]
KNOWLEDGE = Knowledge([POLICY], RECIPIENTS)


class Table:
    """Rows of the table, written as people live."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.rows: list[dict[str, Any]] = []
        self.people: dict[UUID, bytes] = {}

    def person(self, subject: UUID | None = None) -> UUID:
        subject = subject or UUID(int=len(self.people) + 1)
        self.people[subject] = subject.bytes[::-1]
        return subject

    def add(self, subject: UUID, day: float, activity: str, **columns: Any) -> None:
        n = len(self.rows)
        row = {"event_id": UUID(int=10**6 + n), "kafka_offset": n, **columns}
        self.rows.append(row | {"subject": subject, "activity": activity, "occurred_at": EPOCH + timedelta(days=day)})

    def said(self, subject: UUID, day: float, action: str, **columns: Any) -> None:
        self.add(subject, day, "consent", consent_action=action, **columns)

    def collected(self, subject: UUID, day: float, verdict: str = "lawful", **columns: Any) -> None:
        given = {"purpose": "service", "data_categories": ["user.content"], "verdict": verdict, **columns}
        self.add(subject, day, "collect", **given)

    def write(self) -> None:
        columns = sorted({name for row in self.rows for name in row})
        # Columns that a row lacks hold what is none.
        none: dict[str, Any] = {"data_categories": [], "findings": [], "consent_action": "none", "verdict": "none"}
        none |= {"erasure_phase": "none", "revision": 0, "consent_version": 0}
        rows = [tuple(row.get(name, none.get(name)) for name in columns) for row in self.rows]
        self.client.execute(f"INSERT INTO lineage ({', '.join(columns)}) VALUES", rows)
        links = [(alias, subject, 1) for subject, alias in self.people.items()]
        self.client.execute("INSERT INTO subjects (alias, subject, version) VALUES", links)

    def due(self, cause: str, now: int = NOW) -> set[UUID]:
        aliases = {birth.alias for birth in due_people(self.client, KNOWLEDGE, cause, now)}
        return {subject for subject, alias in self.people.items() if alias in aliases}


def broken(recipient: str = "heir") -> dict[str, Any]:
    return {"recipient": recipient, "verdict": "violation", "findings": ["violation 3.2(2) no_pledge"]}
