"""One batch of input messages into lineage records: decode → processors → encode. The tagger without Kafka.

A lineage record is its input record followed by its tags, so it is made by putting bytes together: the head as it
came, then a tail that a batch has only a handful of (equal inputs with equal decisions share it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import fastavro
import numpy as np
import numpy.typing as npt

from processors.consent import ConsentStates
from processors.decide import EventFacts
from processors.judge import Judge
from processors.knowledge import Knowledge
from processors.revising import decision_tags
from streams.columnar import MISSING, Batch, BatchDecoder, TailDecoder, tail_rows
from streams.contracts import Contract, contract
from streams.dead_letters import Refusal, refusal
from streams.erasure_markers import ErasureMarkers, Marked, taken_steps
from streams.serdes import DecodeError, SchemaBook, encode_body
from streams.subjects import ALIAS_SIZE, Subjects, TooManyFactsError, consent_fact
from streams.topics import CONSENT, ERASURE_REQUESTS, SHARING, TELEMETRY

Ints = npt.NDArray[np.int64]

TAKES = {
    TELEMETRY: frozenset({"TelemetryCollected"}),
    SHARING: frozenset({"DataShared"}),
    CONSENT: frozenset({"ConsentChanged"}),
    ERASURE_REQUESTS: frozenset({"ErasureRequested"}),
}
RECORDED = {
    "TelemetryCollected": "CollectionRecorded",
    "DataShared": "DisclosureRecorded",
    "ConsentChanged": "ConsentRecorded",
}


class BadKeyError(DecodeError):
    """The key is no alias."""

    error_class = "bad_key"


class WrongPartitionError(DecodeError):
    """The record is not in the partition of its alias."""

    error_class = "wrong_partition"


class InputMessage(Protocol):
    """What tagging needs of a Kafka message."""

    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def partition(self) -> int: ...


@dataclass
class Tagged:
    """What a batch of inputs gives: lineage records (keys are subjects), which of them are violations or gaps, entries
    of the ledger of erased subjects (subject, SubjectErased), and the messages refused."""

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    unlawful: list[int] = field(default_factory=list)
    erased: list[tuple[bytes, bytes]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def mark(self, marked: Marked) -> None:
        """Takes the marker of an erasure behind everything so far."""
        self.keys.append(marked.subject)
        self.values.append(marked.marker)
        if marked.erased is not None:
            self.erased.append((marked.subject, marked.erased))


class Tagging:
    """Tags batches. Holds what outlives a batch: tails seen, decisions made, the subjects' state."""

    def __init__(self, book: SchemaBook, knowledge: Knowledge, partitions: int) -> None:
        """`partitions`: how many each of the input topics has."""
        self.subjects = Subjects(ConsentStates(), partitions)
        self._judge = Judge(knowledge, self.subjects.states)
        self._inputs = BatchDecoder(book)
        self._outputs = {name: _Output(name, book, self._judge) for name in RECORDED}
        self._markers = ErasureMarkers(book, self.subjects)

    def learn(self, knowledge: Knowledge) -> None:
        """Goes on with other policies or another registry."""
        self._judge = self._judge.with_knowledge(knowledge)
        for output in self._outputs.values():
            output.start_over(self._judge)

    def tag(self, topic: str, messages: Sequence[Any], now: int, into: Tagged) -> None:
        """Tags messages of one input topic at the time `now` (ms). Consents must be tagged before what they govern,
        steps of erasure requests behind everything else."""
        values = [message.value() for message in messages]
        batches, refused = self._inputs.decode(values, TAKES[topic])
        into.refused += [refusal(messages[i], error) for i, error in refused.items()]
        if topic == ERASURE_REQUESTS:
            self._mark_erasures(batches, messages, now, into)
            return
        for decoder, batch in batches:
            taken = [messages[i] for i in batch.index.tolist()] if len(batch) < len(messages) else messages
            keys = [message.key() for message in taken]
            slots = self.subjects.slots(keys, lambda i, taken=taken: taken[i].partition())  # type: ignore[misc]
            for marked in self._markers.earlier(now):
                into.mark(marked)
            if (slots < 0).any():
                for i in np.flatnonzero(slots < 0).tolist():
                    into.refused.append(refusal(messages[int(batch.index[i])], _key_error(keys[i])))
                batch, slots = batch.take(slots >= 0), slots[slots >= 0]
            if batch.name == "ConsentChanged":
                self._record_consents(decoder, batch, slots, messages, now, into)
            else:
                self._judge_events(decoder, batch, slots, now, into)

    def _mark_erasures(
        self, batches: Sequence[tuple[TailDecoder, Batch]], messages: Sequence[Any], now: int, into: Tagged
    ) -> None:
        for step in taken_steps(batches):
            message = messages[step.index]
            alias, partition = message.key(), message.partition()
            if not self.subjects.is_placed(alias, partition):
                into.refused.append(refusal(message, _key_error(alias)))
            elif step.name == "erased":
                if (marked := self._markers.erase(alias, partition, step, now)) is not None:
                    into.mark(marked)
            elif not self._markers.is_answered(alias, step):
                slot = int(self.subjects.slots([alias], lambda _, partition=partition: partition)[0])  # type: ignore[misc]
                for marked in self._markers.earlier(now):
                    into.mark(marked)
                into.mark(self._markers.fence(self.subjects.ids[slot], step, now))

    def trim(self) -> None:
        """Empties memories that have grown too large. Between batches only."""
        if self._inputs.trim() or self._judge.is_full:
            self.learn(self._judge.knowledge)

    def _judge_events(self, decoder: TailDecoder, batch: Batch, slots: Ints, now: int, into: Tagged) -> None:
        output = self._outputs[batch.name]
        occurred_at = batch.columns["occurred_at"]
        collected_at = batch.columns.get("collected_at")
        if collected_at is None:
            collected_at = np.full(len(batch), MISSING, np.int64)
        decisions = self._judge.judge(
            output.shapes(decoder)[batch.tail],
            occurred_at,
            collected_at,
            self.subjects.as_of(slots, occurred_at),
        )
        tails, lawful = output.tails(decoder, batch.tail, decisions, now)
        header = output.header
        into.unlawful += (np.flatnonzero(~lawful) + len(into.keys)).tolist()
        into.keys += map(self.subjects.ids.__getitem__, slots.tolist())
        into.values += [header + head + tail for head, tail in zip(batch.heads(), tails, strict=True)]

    def _record_consents(
        self, decoder: TailDecoder, batch: Batch, slots: Ints, messages: Sequence[Any], now: int, into: Tagged
    ) -> None:
        output = self._outputs[batch.name]
        rows = output.rows(decoder)
        end = output.end(now)
        ids = batch.columns["event_id"].tobytes()
        times = batch.columns["occurred_at"].tolist()
        subjects = self.subjects
        for i, (head, code, slot) in enumerate(zip(batch.heads(), batch.tail.tolist(), slots.tolist(), strict=True)):
            body = head + decoder.encoded[code]
            fact = consent_fact({"event_id": ids[16 * i : 16 * i + 16], "occurred_at": times[i], **rows[code]})
            try:
                subjects.add_fact(slot, fact, body)
            except TooManyFactsError as error:
                into.refused.append(refusal(messages[int(batch.index[i])], error))
                continue
            into.keys.append(subjects.ids[slot])
            into.values.append(output.header + body + end)


def _key_error(key: bytes | None) -> DecodeError:
    if key is None or len(key) != ALIAS_SIZE:
        return BadKeyError(f"the key is not an alias of {ALIAS_SIZE} bytes")
    return WrongPartitionError("not in the partition of its alias: produce with partitioner=murmur2")


class _Output:
    """How one input type becomes its recorded type; remembers shapes and tails."""

    def __init__(self, name: str, book: SchemaBook, judge: Judge) -> None:
        recorded = contract(RECORDED[name])
        self.header = book.header(recorded.name)
        self._tags, self._end = _tag_contracts(contract(name), recorded)
        self._name = name
        self.start_over(judge)

    def start_over(self, judge: Judge) -> None:
        self._judge = judge
        self._rows: dict[int, list[dict[str, Any]]] = {}
        self._shapes: dict[int, npt.NDArray[np.int32]] = {}
        self._encoded_tags: list[bytes] = []
        self._lawful = np.zeros(0, np.bool_)

    def rows(self, decoder: TailDecoder) -> list[dict[str, Any]]:
        """The decoder's tails as dicts, by code."""
        rows = self._rows.setdefault(id(decoder), [])
        rows += tail_rows(decoder, len(rows))
        return rows

    def shapes(self, decoder: TailDecoder) -> npt.NDArray[np.int32]:
        """The judge's shape of each of the decoder's tails, by code."""
        known = self._shapes.get(id(decoder), np.zeros(0, np.int32))
        if len(known) < len(decoder.encoded):
            new = [self._judge.intern(event_facts(self._name, row)) for row in tail_rows(decoder, len(known))]
            known = self._shapes[id(decoder)] = np.concatenate([known, np.array(new, np.int32)])
        return known

    def tails(
        self, decoder: TailDecoder, codes: npt.NDArray[np.int32], decisions: npt.NDArray[np.int32], now: int
    ) -> tuple[list[bytes], npt.NDArray[np.bool_]]:
        """The bytes that follow each record's head, and whether each decision is lawful."""
        for decision in self._judge.decisions[len(self._encoded_tags) :]:
            self._encoded_tags.append(encode_body(self._tags, decision_tags(decision)))
        if len(self._lawful) < len(self._encoded_tags):
            self._lawful = np.array([d.verdict == "lawful" for d in self._judge.decisions], np.bool_)
        pairs = codes.astype(np.int64) << 32 | decisions
        distinct, which = np.unique(pairs, return_inverse=True)
        end = self.end(now)
        encoded, tags = decoder.encoded, self._encoded_tags
        made = [encoded[pair >> 32] + tags[pair & 0xFFFFFFFF] + end for pair in distinct.tolist()]
        return list(map(made.__getitem__, which.tolist())), self._lawful[decisions]

    def end(self, now: int) -> bytes:
        """The tags that a batch has in common: revision 0, judged at `now`."""
        return encode_body(self._end, {"revision": 0, "judged_at": now})


def _tag_contracts(given: Contract, recorded: Contract) -> tuple[Any, Any]:
    """Schemas of the tags that follow the input's fields: those of the decision, and those of the batch."""
    names = recorded.field_names
    if names[: len(given.field_names)] != given.field_names or names[-2:] != ["revision", "judged_at"]:
        raise ValueError(f"{recorded.name} is not {given.name} followed by its tags")
    tags = recorded.schema["fields"][len(given.field_names) :]
    parts = tags[:-2], tags[-2:]
    schemas: list[Any] = [{"type": "record", "name": "Tags", "fields": fields} for fields in parts]
    return fastavro.parse_schema(schemas[0]), fastavro.parse_schema(schemas[1])


def _collection_facts(row: dict[str, Any]) -> EventFacts:
    return EventFacts(
        activity="collect",
        event_type=row["event_type"],
        purpose=row["purpose"],
        categories=tuple(row["categories"]),
        fields=tuple(row["fields"]),
        region=row["region"],
        storage_country=row["storage_country"],
    )


def _disclosure_facts(row: dict[str, Any]) -> EventFacts:
    return EventFacts(
        activity=row["activity"],
        discloser=row["discloser"],
        recipient=row["recipient"],
        purpose=row["purpose"],
        categories=tuple(row["categories"]),
        region=row["region"],
        order=row["order"],
    )


def event_facts(name: str, row: dict[str, Any]) -> EventFacts:
    """What a TelemetryCollected or DataShared says, apart from ids and times."""
    return _collection_facts(row) if name == "TelemetryCollected" else _disclosure_facts(row)
