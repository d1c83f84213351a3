"""Judging again what is in the table, and writing what changed to `lineage`. Knows Kafka and the table, not Faust.

One worker: its transactional id fences a second one. Every round reads a prefix of the log that holds all that this
job has written before, judges with all that is published by then, and writes in one transaction; so the last revision
of an event is always the one that knew most, and a round that is repeated finds nothing to do, or repeats its numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from clickhouse_driver import Client
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, Message, TopicPartition

from processors.consent import ConsentStates
from processors.judge import Judge
from processors.knowledge import Policy, Recipient
from processors.revising import decision_tags, judge_again
from sinks.clickhouse.judged import (
    BEGINNING,
    END_OF_TIME,
    JudgedEvents,
    Scope,
    facts_of_people,
    judged_events,
    months_of_events,
)
from streams.kafka import Kafka
from streams.knowledge_marks import all_know
from streams.lag import committed_offsets, end_offsets, sweeps_group
from streams.reference_data import ReferenceData
from streams.serdes import Registry, Serializer
from streams.topics import LINEAGE, VIOLATIONS

GROUP = "revisions"
POLL_SECONDS = 0.02
# Events that one round holds in memory.
CHUNK_EVENTS = 300_000


@dataclass(frozen=True)
class Request:
    """One RevisionRequested. `subject`: 16 bytes; `since`: ms."""

    subject: bytes
    since: int
    partition: int
    offset: int


@dataclass(frozen=True)
class Chunk:
    """A part of a sweep: a scope within one partition."""

    scope: Scope
    partition: int


class Stopped(Exception):
    """The job was told to stop while it waited."""


class Rejudging:
    """Every method blocks. Raises `KafkaException`, `ClickHouseError`, `TimeoutError`, `Stopped`."""

    def __init__(
        self,
        kafka: Kafka,
        client: Client,
        registry: Registry | None = None,
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kafka = kafka
        self._client = client
        self._stopped = stopped
        self._clock = clock
        self._admin = kafka.admin()
        self._reference = ReferenceData(kafka, registry)
        self._serializers = {name: Serializer(name, registry) for name in ("CollectionRecorded", "DisclosureRecorded")}
        # Of each partition of `lineage` the offset behind the last revision that may not be in the table yet.
        self._written: dict[int, int] = {}
        self._fence: tuple[dict[str, int], dict[int, int]] | None = None
        self.revised = 0

    def start(self) -> None:
        """Takes over from whoever did this before."""
        self._reference.read_to_end()
        self._producer = self._kafka.transactional_producer(GROUP, **{"linger.ms": 5})
        self._producer.init_transactions(60)
        # A predecessor's last revisions may not be loaded yet.
        self._written = self._log_ends()
        self._sweeps = self._kafka.consumer(sweeps_group(GROUP))

    def close(self) -> None:
        self._reference.close()
        self._sweeps.close()

    # Requests

    def revise(self, requests: Sequence[Request]) -> int:
        """Judges the requests' people again from the times given on; gives the number of revisions."""
        by_partition: dict[int, list[Request]] = {}
        for request in requests:
            by_partition.setdefault(request.partition, []).append(request)
        count = 0
        for partition, group in by_partition.items():
            # The loader asks before it commits: what it asks about is in the table, not yet in the prefix.
            cause = max(request.offset for request in group)
            scope = Scope(
                subjects=tuple({request.subject for request in group}), since=min(request.since for request in group)
            )
            count += self._round(scope, partition, cause, at_least=cause + 1)
        return count

    # New policies and registry entries

    def due_sweep(self) -> list[Chunk] | None:
        """What must be judged again because of policies and entries that were not known when it was judged; None:
        nothing, or it cannot be told yet. `sweep` each chunk, then call `swept`."""
        self._reference.catch_up()
        position = dict(self._reference.position)
        done = committed_offsets(self._admin, sweeps_group(GROUP))
        if all(done.get((topic, 0), 0) >= offset for topic, offset in position.items()):
            return None
        if self._fence is None or self._fence[0] != position:
            if not all_know(self._admin, position):
                return None
            self._fence = position, self._log_ends()
        loaded = self._loaded()
        if any(loaded.get(partition, 0) < end for partition, end in self._fence[1].items()):
            return None
        new = [entry for topic, offset, entry in self._reference.read if offset >= done.get((topic, 0), 0)]
        return list(chunks(self._client, affected(new)))

    def sweep(self, chunk: Chunk) -> int:
        """Judges a chunk of the due sweep again; gives the number of revisions."""
        assert self._fence is not None
        fence = self._fence[1].get(chunk.partition, 0)
        return self._round(chunk.scope, chunk.partition, fence, before=fence)

    def swept(self) -> None:
        """The due sweep is done."""
        assert self._fence is not None
        offsets = [TopicPartition(topic, 0, offset) for topic, offset in self._fence[0].items()]
        for tp in self._sweeps.commit(offsets=offsets, asynchronous=False):
            if tp.error is not None:
                raise KafkaException(tp.error)
        self._fence = None

    # A round

    def _round(self, scope: Scope, partition: int, cause: int, at_least: int = 0, before: int | None = None) -> int:
        end = self._await_loaded(partition, max(at_least, self._written.get(partition, 0)))
        # After the end was asked: whatever the tagger knew when it judged the prefix is published by now.
        knowledge = self._reference.catch_up()
        events = judged_events(self._client, scope, partition, end, before)
        if not len(events):
            return 0
        people = facts_of_people(self._client, scope, partition, end)
        states = ConsentStates()
        judge = Judge(knowledge, states)
        decided, changed = judge_again(judge, states, events, people)
        index = np.flatnonzero(changed)
        if len(index):
            revisions = np.maximum(events.revision[index] + 1, cause)
            self._write(self._records(events, index, judge, decided, revisions))
        self.revised += len(index)
        return len(index)

    def _records(
        self, events: JudgedEvents, index: Any, judge: Judge, decided: Any, revisions: Any
    ) -> Iterator[tuple[bytes, bytes, bool]]:
        """Subject, value, and whether it is lawful, of each changed event."""
        now = int(self._clock() * 1000)
        tags = [decision_tags(decision) for decision in judge.decisions]
        for i, revision in zip(index.tolist(), revisions.tolist(), strict=True):
            shape, decision = events.shapes[events.codes[i]], judge.decisions[decided[i]]
            collected_at = int(events.collected_at[i])
            record = {
                **shape,
                **tags[decided[i]],
                "event_id": events.event_ids[i].tobytes(),
                "occurred_at": int(events.occurred_at[i]),
                "collected_at": collected_at if collected_at > BEGINNING - 1 else None,
                "revision": revision,
                "judged_at": now,
            }
            name = "CollectionRecorded" if shape["activity"] == "collect" else "DisclosureRecorded"
            yield events.subjects[i].tobytes(), self._serializers[name].encode(record), decision.verdict == "lawful"

    def _write(self, records: Iterator[tuple[bytes, bytes, bool]]) -> None:
        # Somebody among them may have been erased since their events were read: the loader leaves such revisions out.
        producer, written = self._producer, dict[int, int]()

        def delivered(error: KafkaError | None, message: Message) -> None:
            # What was not delivered fails the transaction.
            if error is None:
                partition = message.partition()
                written[partition] = max(written.get(partition, 0), message.offset() + 1)

        producer.begin_transaction()
        for subject, value, lawful in records:
            producer.produce(LINEAGE, key=subject, value=value, on_delivery=delivered)
            if not lawful:
                producer.produce(VIOLATIONS, key=subject, value=value)
            producer.poll(0)
        producer.commit_transaction(60)
        self._written |= written

    # Positions

    def _log_ends(self) -> dict[int, int]:
        """Of each partition of `lineage` the offset behind all that has been written, committed or not."""
        ends = end_offsets(self._admin, [LINEAGE], isolation=IsolationLevel.READ_UNCOMMITTED)
        return {partition: end for (_, partition), end in ends.items()}

    def _loaded(self) -> dict[int, int]:
        """Of each partition of `lineage` the offset below which everything is in the table."""
        return {
            p: offset for (topic, p), offset in committed_offsets(self._admin, "loader").items() if topic == LINEAGE
        }

    def _await_loaded(self, partition: int, offset: int) -> int:
        """Waits until the table holds a partition up to `offset`; gives up to where it does."""
        while (loaded := self._loaded().get(partition, 0)) < offset:
            if self._stopped():
                raise Stopped
            time.sleep(POLL_SECONDS)
        return loaded


def affected(new: Sequence[Policy | Recipient]) -> list[Scope]:
    """The events that policies or registry entries may judge otherwise than before they were known."""
    policies = [entry.effective_at for entry in new if isinstance(entry, Policy)]
    entries = [entry for entry in new if isinstance(entry, Recipient)]
    scopes = [Scope(since=max(BEGINNING, min(policies)))] if policies else []
    if entries:
        since = max(BEGINNING, min(entry.effective_at for entry in entries))
        # What lies in the range of a new policy is judged again anyhow.
        until = scopes[0].since if scopes else END_OF_TIME
        if since < until:
            scopes.append(Scope(recipients=tuple({entry.id for entry in entries}), since=since, until=until))
    return scopes


def chunks(client: Client, scopes: Sequence[Scope]) -> Iterator[Chunk]:
    """The scopes by month, partition and, where there is much, slices of subjects: none with a share in another's
    events, neighbours seldom of one partition. Raises ClickHouseError."""
    for scope in scopes:
        for month, partition, rows in months_of_events(client, scope):
            since, until = _month(month)
            slices = -(-rows // CHUNK_EVENTS)
            for i in range(slices):
                yield Chunk(
                    Scope(
                        recipients=scope.recipients,
                        slice=(i, slices),
                        since=max(scope.since, since),
                        until=min(scope.until, until),
                    ),
                    partition,
                )


def _month(month: int) -> tuple[int, int]:
    year, of_year = divmod(month, 100)
    begin = datetime(year, of_year, 1, tzinfo=UTC)
    end = datetime(year + of_year // 12, of_year % 12 + 1, 1, tzinfo=UTC)
    return int(begin.timestamp()) * 1000, int(end.timestamp()) * 1000
