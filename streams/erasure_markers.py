"""Steps of erasure requests → markers in `lineage`, and aliases that stand for nobody any more. Without Kafka.

Only two steps matter here. `verified` puts the fence behind everything judged before it. `erased`, which the controller
alone writes, drops the link between the alias and its subject. Whatever comes twice changes nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from streams.columnar import Batch, TailDecoder, tail_rows
from streams.contracts import contract
from streams.serdes import SchemaBook, encode_body
from streams.subjects import Subjects

NO_REQUEST = bytes(16)
_TAKEN = ("verified", "erased")


@dataclass(frozen=True)
class Step:
    """One step that the tagger takes: which of the batch's messages it is, and what it says. `occurred_at`: ms."""

    index: int
    name: str
    request_id: bytes
    occurred_at: int


@dataclass(frozen=True)
class Marked:
    """What a step gives: a record for `lineage`, and where the link was dropped one for `erased-subjects` too."""

    subject: bytes
    marker: bytes
    erased: bytes | None = None


class ErasureMarkers:
    """Makes the markers. Changes `subjects`, and nothing else."""

    def __init__(self, book: SchemaBook, subjects: Subjects) -> None:
        self._subjects = subjects
        self._recorded, self._erased = contract("ErasureRecorded"), contract("SubjectErased")
        self._recorded_header, self._erased_header = book.header("ErasureRecorded"), book.header("SubjectErased")

    def fence(self, subject: bytes, step: Step, now: int) -> Marked:
        """`verified`: everything of the subject that was judged before stands in front of this record."""
        return Marked(subject, self._marker(step.request_id, "requested", step, now))

    def erase(self, alias: bytes, partition: int, step: Step, now: int) -> Marked | None:
        """`erased`: the link is dropped. None: it was before."""
        subject = self._subjects.erase(alias, partition, step.occurred_at)
        if subject is None:
            return None
        erased = self._erased_header + encode_body(self._erased.parsed, {"erased_at": step.occurred_at})
        return Marked(subject, self._marker(step.request_id, "completed", step, now), erased)

    def is_answered(self, alias: bytes, step: Step) -> bool:
        """Whether a `verified` belongs to an erasure that is complete: a copy of it must not link the person anew."""
        erased_at = self._subjects.erased_at(alias)
        return erased_at is not None and step.occurred_at <= erased_at

    def earlier(self, now: int) -> Iterator[Marked]:
        """For whoever has been linked anew: the erasures of the past, as the first records under the new subject.

        The log alone must tell that this person is suppressed. The request is not named: it would tie the new subject
        to the old one.
        """
        for subject, times in self._subjects.take_linked_anew():
            for time in times:
                record = {"event_id": uuid5(UUID(bytes=subject), str(time)).bytes, "request_id": NO_REQUEST}
                yield Marked(subject, self._encode({**record, "phase": "completed", "occurred_at": time}, now))

    def _marker(self, request_id: bytes, phase: str, step: Step, now: int) -> bytes:
        # A step that is told twice is one event.
        event_id = uuid5(UUID(bytes=request_id), phase).bytes
        record = {"event_id": event_id, "request_id": request_id, "phase": phase, "occurred_at": step.occurred_at}
        return self._encode(record, now)

    def _encode(self, record: dict[str, Any], now: int) -> bytes:
        return self._recorded_header + encode_body(self._recorded.parsed, {**record, "revision": 0, "judged_at": now})


def taken_steps(batches: Iterable[tuple[TailDecoder, Batch]]) -> Sequence[Step]:
    """The steps that the tagger takes, in the order of their messages. The others are the controller's alone."""
    steps: list[Step] = []
    for decoder, batch in batches:
        names = np.array([row["step"] for row in tail_rows(decoder, 0)], object)[batch.tail]
        ids = batch.columns["request_id"]
        times = batch.columns["occurred_at"]
        for i in np.flatnonzero(np.isin(names.astype(str), _TAKEN)).tolist():
            steps.append(Step(int(batch.index[i]), names[i], ids[i].tobytes(), int(times[i])))
    return sorted(steps, key=lambda step: step.index)
