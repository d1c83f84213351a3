"""What the audit API needs of the rest of the system, handed in: it reads no settings, no file and no topic itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from audit.api.errors import Unavailable
from audit.exports.background import Operator
from processors.api_clients import ApiClient
from processors.erasure_acts import Told
from processors.knowledge import Knowledge
from sinks.clickhouse.pool import ClickHousePool

Record = Mapping[str, Any]


def _nobody_to_tell(_: UUID, __: Sequence[Told]) -> None:
    raise Unavailable("erasure requests cannot be changed here")


@dataclass(frozen=True)
class Published:
    """All that was published: `PolicyPublished` and `RecipientRegistered` records (times in ms), and the same as the
    judge knows it."""

    policies: Sequence[Record]
    recipients: Sequence[Record]
    knowledge: Knowledge


@dataclass(frozen=True)
class Services:
    """The functions may be called from any thread.

    authenticate: the header Authorization → who calls; may wait; raises `Unauthorized`, `Forbidden` (no role at all),
    `AuthenticationUnavailable`. alias_of: user id → alias (16 bytes).
    published, dead_letters (how many there are): raise `Unavailable`. operator: who runs the app. clock: seconds since
    1970, UTC. rate, burst: requests a second and at once, of one client. protocol_of: recipient → how it is asked to
    erase; None: it need not be, or it is not known. certificate_keys: whose signature certificates must have; None:
    anybody's. tell: what a person has done about the recipients of an erasure request (its id), on its way to the
    controller when it returns; raises `Unavailable`, then some of it may be.
    """

    clickhouse: ClickHousePool
    authenticate: Callable[[str | None], ApiClient]
    alias_of: Callable[[str], bytes]
    published: Callable[[], Published]
    operator: Callable[[], Operator]
    dead_letters: Callable[[], int]
    clock: Callable[[], float]
    rate: float = 50.0
    burst: int = 200
    protocol_of: Callable[[str], str | None] = lambda _: None
    certificate_keys: Callable[[], Sequence[Ed25519PublicKey] | None] = lambda: None
    tell: Callable[[UUID, Sequence[Told]], None] = _nobody_to_tell
