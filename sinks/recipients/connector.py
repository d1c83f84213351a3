"""What a connector is: the way to one recipient, by one protocol.

A connector never raises for what the network or the recipient does: that is an Answer. It keeps no identifier longer
than the call, and none shows in a log, an error or an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable
from uuid import UUID

from processors.erasure_commands import Answer, Command


class Connector(Protocol):
    """One recipient. `protocol`: opendsr, ddrf or http."""

    @property
    def protocol(self) -> str: ...

    async def dispatch(self, command: Command) -> Answer:
        """Sends the command, or sends it again."""
        ...

    async def check(self, command: Command, reference: str) -> Answer:
        """Asks how a command stands that was sent before. `reference`: the recipient's own id of it."""
        ...

    async def callback(self, headers: Mapping[str, str], body: bytes, callback_url: str) -> tuple[UUID, Answer]:
        """What the recipient tells by itself, of which command (its idempotency key). `headers`: names in any case;
        `body`: raw; `callback_url`: where it came in. Raises `CallbackRefused`, also where the protocol has none."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Discoverable(Protocol):
    """A connector whose recipient may announce how it wants to be asked."""

    async def discover(self) -> str | None:
        """What it announces, in words; None: nothing. Sends nothing of anybody. Raises `DiscoveryError`."""
        ...


class DiscoveryError(Exception):
    """A recipient that cannot be asked as it is configured; the text says why."""


class CallbackRefused(Exception):
    """A callback that is not to be believed. `status`: what its sender is answered; `reason` quotes no content."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
