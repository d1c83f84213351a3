"""What passes between the erasure controller and a connector: one command to one recipient, and what came of it.

Pure types. A command holds the person's real identifiers for one dispatch; they never show in its repr, a log or an
answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal
from uuid import UUID, uuid5


class Grade(IntEnum):
    """Evidence for what a target says, weakest first (design §10)."""

    none = 0
    dispatched = 1
    acknowledged = 2
    claimed = 3
    signed = 4
    verified = 5


# OpenDSR's words: identity_type, identity_format, identity_value.
Identity = Mapping[str, str]


@dataclass(frozen=True)
class Command:
    """One erasure at one recipient.

    `idempotency_key`: the same for every attempt of a round; a recipient that has seen it does nothing again.
    `submitted_at`, `due_at`: ms since 1970, UTC. `callback_url`: where the recipient may tell what became of it.
    """

    request_id: UUID
    target: str
    idempotency_key: UUID
    attempt: int
    submitted_at: int
    due_at: int
    regulation: str = "pipl"
    callback_url: str | None = None
    identities: tuple[Identity, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Answer:
    """What came of a dispatch or an inquiry, or what a receipt says.

    `outcome`: `dispatched` (sent, nobody said anything), `acknowledged` (accepted, not done), `completed`, `failed`
    (for good), `unsupported` (it cannot be asked, e.g. no identifier that it knows), `exempt` (it may keep the data,
    see `ground`), `retry` (nothing came of it, try again). `check_after`: seconds until the recipient may be asked how
    it stands; None: it cannot be asked, or tells by itself. `retry_after`: seconds that the recipient asked for.
    `reference`: its own id of the command. `evidence`: SHA-256 (hex) of the raw answer. `detail`: in words, never
    content.
    """

    outcome: Literal["dispatched", "acknowledged", "completed", "failed", "unsupported", "exempt", "retry"]
    grade: Grade = Grade.none
    detail: str = ""
    ground: str = ""
    reference: str = ""
    evidence: str = ""
    check_after: float | None = None
    retry_after: float | None = None


def idempotency_key(request_id: UUID, target: str, round_: int) -> UUID:
    """The key of every command of a round: made of what is asked, so that a crash cannot make it another one."""
    # OpenDSR wants ids of version 4.
    return UUID(bytes=uuid5(request_id, f"{round_}:{target}").bytes, version=4)
