"""What the log and the recipients know of erasures that were played on the real stack: to judge their ends by.

Reads Kafka record by record and the simulator's truth; asks neither the controller nor its table.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from processors.erasure import PUBLIC, STORE
from processors.erasure_commands import idempotency_key
from streams.kafka import Kafka
from streams.log_reader import LogReader


@dataclass(frozen=True)
class Passed:
    """One disclosure of the log, as it was judged first. Times in ms."""

    recipient: str
    occurred_at: int
    judged_at: int


@dataclass
class ErasureLog:
    """Of each request: the person's subject, and what was disclosed of them before the link was dropped."""

    subjects: dict[UUID, UUID] = field(default_factory=dict)
    passed: dict[UUID, list[Passed]] = field(default_factory=dict)

    def count(self, request_id: UUID) -> Counter[str]:
        """Recipient → disclosures."""
        return Counter(one.recipient for one in self.passed[request_id])

    def last_judged(self, request_id: UUID, recipient: str) -> int:
        return max(one.judged_at for one in self.passed[request_id] if one.recipient == recipient)


def read_log(kafka: Kafka, requests: Collection[UUID]) -> ErasureLog:
    """Whose data went to whom, by the log alone: whatever stands there under the subject that a request was for."""
    log = ErasureLog()
    reader = LogReader(kafka)
    of_subject: defaultdict[bytes, dict[bytes, Passed]] = defaultdict(dict)
    try:
        for partition in reader.ends:
            for _, subject, name, fields in reader.facts(partition):
                if name == "ErasureRecorded" and UUID(bytes=fields["request_id"]) in requests:
                    log.subjects[UUID(bytes=fields["request_id"])] = UUID(bytes=subject)
            for _, subject, name, fields in reader.events(partition):
                if name == "DisclosureRecorded":
                    seen = Passed(fields["recipient"] or PUBLIC, fields["occurred_at"], fields["judged_at"])
                    of_subject[subject].setdefault(fields["event_id"], seen)
    finally:
        reader.close()
    log.passed = {request_id: list(of_subject[subject.bytes].values()) for request_id, subject in log.subjects.items()}
    return log


def recipients(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The targets of a request that are no own store."""
    return [target for target in document["targets"] if not target["id"].startswith(STORE)]


def commands(truth: Mapping[str, Any], recipient: str) -> dict[UUID, dict[str, Any]]:
    """Idempotency key → what a simulated recipient did under it."""
    return {UUID(entry["idempotency_key"]): entry for entry in truth[recipient]["commands"]}


def last_key(request_id: UUID, target: Mapping[str, Any]) -> UUID:
    """The key of the newest command to a target."""
    return idempotency_key(request_id, target["id"], target["round"])


def keys(request_id: UUID, target: Mapping[str, Any]) -> set[UUID]:
    """The keys that a target may have been asked under."""
    return {idempotency_key(request_id, target["id"], round_) for round_ in range(target["round"] + 1)}


def contradicted(log: ErasureLog, document: Mapping[str, Any]) -> set[str]:
    """Recipients of a request that got data after they had said that they were done."""
    claims = {t["id"]: t["claimed_at"] for t in recipients(document) if t["claimed_at"] is not None}
    passed = log.passed[UUID(document["request_id"])]
    return {one.recipient for one in passed if one.recipient in claims and one.occurred_at > claims[one.recipient]}
