"""What the tagger knows of each alias: its subject and its consent facts. In memory, with `subject-state` as its log.

A SubjectState is kept as the very bytes that the changelog holds. A new consent is appended to them as one more block
of the `facts` array (Avro arrays are sequences of blocks), so that no consent is ever decoded to be written again.
Never reads or writes Kafka: the tagger passes records in and takes changes out. Nothing here is undone: a failed
transaction ends the process, and the next one restores from the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from processors.consent import ConsentFact, ConsentStates, ConsentTimelines, timeline
from processors.partitioning import partition_of
from streams.contracts import contract
from streams.serdes import DecodeError, decode_body, encode_body

Ints = npt.NDArray[np.int64]

ALIAS_SIZE = 16
# One person's facts stay well below Kafka's largest message.
MOST_STATE_BYTES = 900_000
_LINKED = 0x02
# The size of a SubjectState that has a subject and nothing else.
_EMPTY = 1 + 16 + 2


class TooManyFactsError(DecodeError):
    """A person's consent facts no longer fit one record of `subject-state`."""

    error_class = "too_many_facts"


class Subjects:
    """Aliases by dense number (*slot*), over all partitions that this worker holds."""

    def __init__(self, states: ConsentStates, partitions: int) -> None:
        self.states = states
        self._partition_count = partitions
        self.timelines = ConsentTimelines()
        self.ids: list[bytes] = []
        self._slots: dict[bytes, int] = {}
        self._aliases: list[bytes] = []
        self._bodies: list[bytes] = []
        self._partitions = np.zeros(1024, np.int32)
        # Restored, but its timeline is not built yet: that waits until the person is seen.
        self._unbuilt = np.zeros(1024, np.bool_)
        # Erased, and not seen since: no subject stands for the alias.
        self._bare = np.zeros(1024, np.bool_)
        self._facts: dict[int, tuple[dict[Any, ConsentFact], list[int]]] = {}
        self._changed: dict[int, None] = {}
        self._linked_anew: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    def slots(self, keys: Sequence[bytes | None], partition_of_record: Callable[[int], int]) -> Ints:
        """The slot of each alias, made on first sight; −1 where a key is no alias, or not in the partition that
        murmur2 gives it: another worker would hold another half of that person.

        `partition_of_record(i)`: the partition that the record of `keys[i]` came from. Asked on first sight only: who
        is known is in the right partition.
        """
        found = list(map(self._slots.get, keys))  # type: ignore[arg-type]
        if None in found:
            for i, slot in enumerate(found):
                if slot is None:
                    found[i] = self._first_sight(keys[i], partition_of_record(i))
        slots = np.array(found, np.int64)
        # A slot that is none, -1, looks at the last one's: harmless, and never linked.
        bare = slots[self._bare[slots] & (slots >= 0)]
        if len(bare):
            for slot in np.unique(bare).tolist():
                self._link_anew(slot)
        return slots

    def is_placed(self, alias: bytes | None, partition: int) -> bool:
        """Whether this is an alias, and the partition is the one that murmur2 gives it."""
        return (
            alias is not None and len(alias) == ALIAS_SIZE and partition_of(alias, self._partition_count) == partition
        )

    def _first_sight(self, alias: bytes | None, partition: int) -> int:
        if alias is None or not self.is_placed(alias, partition):
            return -1
        known = self._slots.get(alias)
        return self._add(alias, partition) if known is None else known

    def as_of(self, slots: Ints, times: Ints) -> npt.NDArray[np.int32]:
        """The id of each subject's consent state at each time (ms)."""
        unbuilt = slots[self._unbuilt[slots]]
        if len(unbuilt):
            for slot in np.unique(unbuilt).tolist():
                self._build(slot)
        states: npt.NDArray[np.int32] = self.timelines.as_of(slots, times)
        return states

    def add_fact(self, slot: int, fact: ConsentFact, body: bytes) -> bool:
        """Takes one consent fact; `body`: its ConsentFact encoding. False for one that is already known by its id.

        Raises `TooManyFactsError`."""
        facts, _ = self._facts_of(slot)
        if fact.event_id in facts:
            return False
        state = self._bodies[slot]
        if len(state) + len(body) > MOST_STATE_BYTES:
            raise TooManyFactsError(f"this person's consent facts exceed {MOST_STATE_BYTES} bytes")
        facts[fact.event_id] = fact
        # The last byte ends the array: one more block of one fact goes before it.
        self._bodies[slot] = b"".join((state[:-1], b"\x02", body, b"\x00"))
        self._unbuilt[slot] = True
        self._changed[slot] = None
        return True

    def take_changes(self) -> list[tuple[int, bytes, bytes]]:
        """The changelog records of all changes since the last call: partition, alias, SubjectState body."""
        changes = [(int(self._partitions[s]), self._aliases[s], self._bodies[s]) for s in self._changed]
        self._changed.clear()
        return changes

    def take_linked_anew(self) -> list[tuple[bytes, list[int]]]:
        """Erased people seen again since the last call: the new subject, and when erasures of the person completed
        (ms, ascending). Whoever reads the log only must be told before anything else of that subject."""
        linked, self._linked_anew = self._linked_anew, []
        return [(self.ids[slot], sorted(self._facts_of(slot)[1])) for slot in linked]

    def erased_at(self, alias: bytes) -> int | None:
        """When the last erasure of someone was completed (ms) whom no subject stands for; None: one does, or nobody
        has seen them."""
        slot = self._slots.get(alias)
        return None if slot is None or not self._bare[slot] else max(self._facts_of(slot)[1], default=0)

    def erase(self, alias: bytes, partition: int, time: int) -> bytes | None:
        """Drops the link and all facts of a person; what stays is that erasures were completed, the last one at `time`
        (ms). Gives the subject that was theirs; None when there is nothing to do: no subject stands for the alias, or
        this erasure is known."""
        slot = self._slots.get(alias)
        if slot is None:
            slot = self._add(alias, partition)
        erased = self._facts_of(slot)[1]
        if self._bare[slot] or time in erased:
            return None
        subject, self.ids[slot] = self.ids[slot], b""
        left = {"subject": None, "erased": [*erased, time], "facts": []}
        self._bodies[slot] = encode_body(contract("SubjectState").parsed, left)
        self._facts.pop(slot)
        self._bare[slot] = self._unbuilt[slot] = True
        self._changed[slot] = None
        return subject

    def restore(self, partition: int, records: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Takes changelog records (alias, SubjectState body or None for a tombstone) in order; gives their number."""
        count = 0
        for alias, body in records:
            count += 1
            slot = self._slots.get(alias)
            if body is None:
                if slot is not None:
                    self._forget(slot)
                continue
            if slot is None:
                slot = self._new_slot(alias, partition)
            self._bodies[slot] = body
            self._partitions[slot] = partition
            self._facts.pop(slot, None)
            self._unbuilt[slot] = True
            self._bare[slot] = body[0] != _LINKED
            self.ids[slot] = b"" if self._bare[slot] else body[1:17]
        return count

    def drop(self, partition: int) -> None:
        """Forgets a partition that another worker has now."""
        for slot in np.flatnonzero(self._partitions[: len(self._aliases)] == partition).tolist():
            self._forget(slot)

    def _forget(self, slot: int) -> None:
        self._slots.pop(self._aliases[slot], None)
        self._partitions[slot] = -1
        self._aliases[slot] = self._bodies[slot] = b""
        self._facts.pop(slot, None)
        self._bare[slot] = self._unbuilt[slot] = False
        self.timelines.put(slot, [])

    def _add(self, alias: bytes, partition: int) -> int:
        slot = self._new_slot(alias, partition)
        self.ids[slot] = _random_id()
        self._bodies[slot] = b"\x02" + self.ids[slot] + b"\x00\x00"
        self._changed[slot] = None
        return slot

    def _new_slot(self, alias: bytes, partition: int) -> int:
        slot = len(self._aliases)
        if slot == len(self._partitions):
            self._partitions = np.concatenate([self._partitions, np.zeros(slot, np.int32)])
            self._unbuilt = np.concatenate([self._unbuilt, np.zeros(slot, np.bool_)])
            self._bare = np.concatenate([self._bare, np.zeros(slot, np.bool_)])
        self._slots[alias] = slot
        self._aliases.append(alias)
        self._bodies.append(b"")
        self.ids.append(b"")
        self._partitions[slot] = partition
        return slot

    def _link_anew(self, slot: int) -> None:
        """An erased person is seen again: a new subject, whose events are suppressed until they consent anew."""
        self.ids[slot] = _random_id()
        self._bodies[slot] = b"\x02" + self.ids[slot] + self._bodies[slot][1:]
        self._bare[slot] = False
        self._changed[slot] = None
        self._linked_anew.append(slot)

    def _facts_of(self, slot: int) -> tuple[dict[Any, ConsentFact], list[int]]:
        known = self._facts.get(slot)
        if known is None and len(self._bodies[slot]) == _EMPTY and not self._bare[slot]:
            known = self._facts[slot] = {}, []
        elif known is None:
            state = decode_body(contract("SubjectState"), self._bodies[slot])
            facts = {fact["event_id"]: consent_fact(fact) for fact in state["facts"]}
            known = self._facts[slot] = facts, list(state["erased"])
        return known

    def _build(self, slot: int) -> None:
        facts, erased = self._facts_of(slot)
        states = self.states
        self.timelines.put(
            slot, [(time, states.intern(state)) for time, state in timeline(list(facts.values()), erased)]
        )
        self._unbuilt[slot] = False


def consent_fact(record: dict[str, Any]) -> ConsentFact:
    """A ConsentChanged record (times in ms, ids in bytes) as the processors have it."""
    return ConsentFact(
        event_id=record["event_id"],
        occurred_at=record["occurred_at"],
        action=record["action"],
        version=record["version"],
        band=record["band"],
        granted=record["granted"],
        activity=record["activity"],
        purpose=record["purpose"],
        recipient=record["recipient"],
        categories=tuple(record["categories"]),
    )


def _random_id() -> bytes:
    """A random UUID (version 4)."""
    random = bytearray(os.urandom(16))
    random[6] = random[6] & 0x0F | 0x40
    random[8] = random[8] & 0x3F | 0x80
    return bytes(random)
