"""Judges batches. A batch has only a handful of distinct decisions: each is made once, by `decide`, and remembered.

An event's decision depends on its *shape* (what it says apart from ids and times), the *epoch* of its time, the
person's *consent state* then and the *retention class* of its data. Those four are numbers; a batch is judged by
finding the distinct combinations with numpy and deciding the ones never met before. Never loops over events.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from processors.consent import ConsentStates
from processors.decide import Case, Decision, EventFacts, Retention, consider, decide, retention_limit
from processors.knowledge import Knowledge

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]

MISSING = -(2**63)
NO_LIMIT = 2**62
# Combinations and shapes remembered before a caller should start over.
REMEMBERED = 1_000_000

# How a combination is packed into 63 bits.
_SHAPE_BITS, _EPOCH_BITS, _STATE_BITS, _RETENTION_BITS = 20, 17, 24, 2


class Judge:
    """Decisions by number (`decisions`), under one knowledge. Equal decisions have one number."""

    def __init__(self, knowledge: Knowledge, states: ConsentStates) -> None:
        self.knowledge = knowledge
        self.decisions: list[Decision] = []
        self._states = states
        self._facts: list[EventFacts] = []
        self._shapes: dict[EventFacts, int] = {}
        self._numbers: dict[Decision, int] = {}
        self._made: dict[int, int] = {}
        self._cases: dict[int, Case] = {}
        self._limits: dict[int, int] = {}

    def with_knowledge(self, knowledge: Knowledge) -> Judge:
        """A judge under other policies or another registry, which remembers no decision and no shape."""
        return Judge(knowledge, self._states)

    @property
    def is_full(self) -> bool:
        """Whether so much is remembered that the caller should go on with a new judge."""
        return max(len(self._made), len(self._cases)) > REMEMBERED * 0.9

    def intern(self, facts: EventFacts) -> int:
        """The number of a shape."""
        shape = self._shapes.get(facts)
        if shape is None:
            shape = self._shapes[facts] = len(self._facts)
            self._facts.append(facts)
        return shape

    def judge(self, shape: Codes, occurred_at: Ints, collected_at: Ints, consent_state: Codes) -> Codes:
        """The number of each event's decision.

        shape: from `intern`; occurred_at: ms; collected_at: ms, or `MISSING`; consent_state: the number of the
        person's state at `occurred_at`. Raises OverflowError beyond a million shapes, 131,072 epochs or 16 million
        states.
        """
        epoch = self.knowledge.epochs(occurred_at)
        packed = (shape.astype(np.int64) << _EPOCH_BITS) | epoch
        retention = self._retention(packed, occurred_at, collected_at)
        if (
            len(self._facts) >= 1 << _SHAPE_BITS
            or len(self.knowledge.breakpoints) >= (1 << _EPOCH_BITS) - 1
            or len(self._states) >= 1 << _STATE_BITS
        ):
            raise OverflowError("too many distinct shapes, epochs or consent states for one judge")
        key = (((packed << _STATE_BITS) | consent_state) << _RETENTION_BITS) | retention
        distinct, which = np.unique(key, return_inverse=True)
        made = self._made
        numbers = np.empty(len(distinct), np.int32)
        for i, one in enumerate(distinct.tolist()):
            number = made.get(one)
            if number is None:
                number = made[one] = self._decide(one)
            numbers[i] = number
        judged: Codes = numbers[which]
        return judged

    def _decide(self, key: int) -> int:
        retention = key & ((1 << _RETENTION_BITS) - 1)
        key >>= _RETENTION_BITS
        state = key & ((1 << _STATE_BITS) - 1)
        decision = decide(self._case(key >> _STATE_BITS), self._states.states[state], Retention(retention))
        number = self._numbers.get(decision)
        if number is None:
            number = self._numbers[decision] = len(self.decisions)
            self.decisions.append(decision)
        return number

    def _case(self, packed: int) -> Case:
        case = self._cases.get(packed)
        if case is None:
            view = self.knowledge.view(packed & ((1 << _EPOCH_BITS) - 1))
            case = self._cases[packed] = consider(self._facts[packed >> _EPOCH_BITS], view)
        return case

    def _retention(self, packed: Ints, occurred_at: Ints, collected_at: Ints) -> Ints:
        """The `Retention` of each event: the limit depends on shape and epoch only, the comparison is vectorised."""
        retention = np.zeros(len(packed), np.int64)
        given = np.flatnonzero(collected_at != MISSING)
        if not len(given):
            return retention
        distinct, which = np.unique(packed[given], return_inverse=True)
        limits = np.array([self._limit(one) for one in distinct.tolist()], np.int64)[which]
        age = occurred_at[given] - collected_at[given]
        retention[given] = np.where(age < 0, Retention.FUTURE, np.where(age > limits, Retention.OVER, Retention.WITHIN))
        return retention

    def _limit(self, packed: int) -> int:
        limit = self._limits.get(packed)
        if limit is None:
            found = retention_limit(self._case(packed))
            limit = self._limits[packed] = NO_LIMIT if found is None else found
        return limit
