"""What would change if a range of events were judged under other policies or another registry. Writes nothing but, for
`sweep_again`, one committed offset: revisions are the workflow's to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from clickhouse_driver import Client
from confluent_kafka import KafkaException, TopicPartition

from processors.consent import ConsentStates
from processors.judge import Judge
from processors.knowledge import Knowledge, Policy, Recipient
from processors.revising import judge_again
from sinks.clickhouse.judged import Scope, facts_of_people, judged_events
from streams.kafka import Kafka
from streams.lag import committed_offsets, sweeps_group
from streams.topics import LINEAGE, POLICIES
from streams.workflows.rejudging import GROUP, chunks

EXAMPLES = 10


@dataclass
class Comparison:
    """The verdicts that count now (`before`) and those that would (`after`): counts by verdict and by clause, how many
    events would get another answer, and a few of these."""

    events: int = 0
    changed: int = 0
    verdicts: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    clauses: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    examples: list[dict[str, Any]] = field(default_factory=list)


def with_documents(
    published: Knowledge, policies: Iterable[Mapping[str, Any]], recipients: Iterable[Mapping[str, Any]]
) -> Knowledge:
    """What is published, with these records as though they had been published in their place: a policy in place of
    its version, an entry in place of the recipient's entry of the same `effective_at`; new ones are added."""
    known_policies, known_entries = dict(published.policies), dict(published.recipients)
    known_policies |= {policy.version: policy for policy in map(Policy.from_record, policies)}
    known_entries |= {(entry.id, entry.effective_at): entry for entry in map(Recipient.from_record, recipients)}
    return Knowledge(known_policies.values(), known_entries.values())


def compare(
    kafka: Kafka,
    client: Client,
    knowledge: Knowledge,
    scope: Scope,
    progress: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Judges what is loaded of a scope under `knowledge`. `progress` is told how many events are judged.

    Raises `KafkaException`, `ClickHouseError`.
    """
    found = Comparison()
    ends = {p: end for (topic, p), end in committed_offsets(kafka.admin(), "loader").items() if topic == LINEAGE}
    for chunk in chunks(client, [scope]):
        end = ends.get(chunk.partition, 0)
        events = judged_events(client, chunk.scope, chunk.partition, end)
        people = facts_of_people(client, chunk.scope, chunk.partition, end)
        judge = Judge(knowledge, states := ConsentStates())
        decided, _ = judge_again(judge, states, events, people)
        pairs, which, counts = np.unique(
            events.codes.astype(np.int64) << 32 | decided, return_inverse=True, return_counts=True
        )
        for number, (pair, count) in enumerate(zip(pairs.tolist(), counts.tolist(), strict=True)):
            shape, decision = events.shapes[pair >> 32], judge.decisions[pair & 0xFFFFFFFF]
            before = _answer(shape["verdict"], shape["clauses"], shape["legal_basis"])
            after = _answer(decision.verdict, decision.clauses, decision.legal_basis)
            for side, answer in enumerate((before, after)):
                found.verdicts[side][answer["verdict"]] += count
                for clause in answer["clauses"]:
                    found.clauses[side][clause] += count
            if before != after:
                found.changed += count
                for i in np.flatnonzero(which == number)[: EXAMPLES - len(found.examples)].tolist():
                    event_id = str(UUID(bytes=events.event_ids[i].tobytes()))
                    found.examples.append({"event_id": event_id, "before": before, "after": after})
        found.events += len(events)
        progress(found.events)
    return found


def _answer(verdict: str, clauses: Iterable[str], legal_basis: str) -> dict[str, Any]:
    return {"verdict": verdict, "clauses": list(clauses), "legal_basis": legal_basis}


def sweep_again(kafka: Kafka) -> None:
    """Has the workflow `revisions` judge everything again by what is published. Raises `KafkaException`."""
    consumer = kafka.consumer(sweeps_group(GROUP))
    try:
        for tp in consumer.commit(offsets=[TopicPartition(POLICIES, 0, 0)], asynchronous=False):
            if tp.error is not None:
                raise KafkaException(tp.error)
    finally:
        consumer.close()
