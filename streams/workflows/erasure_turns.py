"""What goes into a turn of the erasure controller, and what comes out of it. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from processors.erasure import Callback, Request, Step
from processors.erasure_commands import Answer, Command
from streams.sealed_identities import Sealed


class Receipt(NamedTuple):
    """One ErasureReceipt."""

    request_id: UUID
    target: str
    answer: str
    grade: str
    detail: str
    ground: str
    evidence: str
    key: UUID | None


class Told(NamedTuple):
    """What came of a call to a target, under the key that it was made with."""

    request_id: UUID
    target: str
    answer: Answer
    key: UUID


class CalledBack(NamedTuple):
    """What came of a callback to whoever asked for the erasure."""

    request_id: UUID
    callback: Callback
    status: str
    taken: bool


class Purged(NamedTuple):
    """A person has left the own stores. `rows`: place → rows removed or emptied, survivors counted and none.
    `sealed`: the person's records in `identities`, which are still there."""

    request_id: UUID
    rows: Mapping[str, int]
    sealed: Sequence[Sealed]


@dataclass
class Came:
    """What has come in since the last turn."""

    steps: list[Step] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    called_back: list[CalledBack] = field(default_factory=list)
    purged: list[Purged] = field(default_factory=list)


class Call(NamedTuple):
    """A call to make. `reference` None: the command is to be sent; else it is asked how that one stands."""

    command: Command
    protocol: str
    reference: str | None


@dataclass
class Wanted:
    """What a turn wants done. `purge`: requests whose people are to leave the own stores, with their subjects."""

    calls: list[Call] = field(default_factory=list)
    callbacks: list[tuple[Request, Callback]] = field(default_factory=list)
    purge: list[Request] = field(default_factory=list)
