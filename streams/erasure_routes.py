"""Which way a recipient is asked to erase: by its connector, by Kafka, by a person, or not at all and why.

Says what happens here, without a call: commands for Kafka are made, tasks for a person are kept in time. Opens no
identifier and makes no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from processors.erasure import DAY, PUBLIC, SECOND, Request, Route, Target
from processors.erasure_commands import Answer, Command, Grade
from processors.knowledge import Knowledge
from sinks.recipients.configuration import Connectors, KafkaTarget, ManualTask
from sinks.recipients.connector import Connector
from streams.erasure_store import Record
from streams.identities import Identity as SealedIdentity
from streams.identities import key_id, load_public_key, plain_identities
from streams.serdes import Registry, Serializer
from streams.topics import ERASURE_COMMANDS

COMMAND_INFO = b"lineage erasure command v1"
AUTHORITY_GROUND = "3.1(2): given because the law or legal process required it"
# A recipient that nobody has written down how to reach.
DEFAULT_TASK = ManualTask(contact="", remind_days=(5, 10), expire_days=14, identity_types=())


class Routes:
    """`connectors`, `knowledge`: asked each time, as they are then. `now`: ms."""

    def __init__(
        self,
        connectors: Callable[[], Connectors],
        knowledge: Callable[[], Knowledge],
        clock: Callable[[], float],
        registry: Registry | None = None,
    ) -> None:
        self._connectors = connectors
        self._knowledge = knowledge
        self._clock = clock
        self._commands = Serializer("ErasureCommanded", registry)

    def route(self, recipient: str) -> Route:
        """How a recipient is asked. One that data had to be given to by law, and that nobody has said how to ask, may
        keep it."""
        found = self._connectors().of(recipient)
        if found is None:
            if self._kind(recipient) == "authority":
                return Route("none", exempt=AUTHORITY_GROUND)
            return Route("manual")
        return Route(found.protocol)

    def _kind(self, recipient: str) -> str | None:
        knowledge = self._knowledge()
        entry = knowledge.view(knowledge.epoch(int(self._clock() * 1000))).recipient(recipient)
        return None if entry is None else entry.kind

    def connector(self, recipient: str) -> Connector | None:
        """What makes the calls to a recipient; None: nothing here does any more."""
        found = self._connectors().of(recipient)
        return None if found is None or isinstance(found, KafkaTarget | ManualTask) else found

    # What needs no call

    def dispatch_here(self, request: Request, target: Target, now: int) -> Answer | None:
        """The answer to a dispatch that is no call; None: it is one."""
        return None if self._is_called(target.id) else self._task(request, target, now)

    def check_here(self, request: Request, target: Target, now: int) -> Answer | None:
        """The answer to an inquiry that is no call; None: it is one."""
        return None if self._is_called(target.id) else self._task(request, target, now)

    def _is_called(self, recipient: str) -> bool:
        found = self._connectors().of(recipient)
        return found is not None and not isinstance(found, ManualTask)

    def _task(self, request: Request, target: Target, now: int) -> Answer:
        """A task for a person: reminded of, and expired when nobody has confirmed it."""
        found = self._connectors().of(target.id)
        task = found if isinstance(found, ManualTask) else DEFAULT_TASK
        since = target.dispatched_at if target.dispatched_at is not None else now
        days = (now - since) / DAY
        if days >= task.expire_days:
            return Answer("failed", ground=f"nobody has confirmed the deletion within {task.expire_days} days")
        what = "take the publication down" if target.id == PUBLIC else "a person must ask for it"
        due = [day for day in task.remind_days if day <= days]
        reminded = f", reminder {len(due)}" if due else ""
        following = min((day for day in (*task.remind_days, task.expire_days) if day > days), default=task.expire_days)
        return Answer(
            "dispatched",
            # Nobody has sent anything yet.
            Grade.none,
            detail=f"{what}: lineage requests task {request.request_id} {target.id}{reminded}",
            check_after=(since + following * DAY - now) / SECOND,
        )

    def command_records(self, command: Command, now: int) -> list[Record] | None:
        """The command as a record, for a recipient that takes it from Kafka; None: it does not."""
        found = self._connectors().of(command.target)
        if not isinstance(found, KafkaTarget):
            return None
        public_key = load_public_key(found.public_key)
        record: Mapping[str, object] = {
            "request_id": command.request_id.bytes,
            "target": command.target,
            "occurred_at": now,
            "idempotency_key": command.idempotency_key.bytes,
            "attempt": command.attempt,
            "due_at": command.due_at,
            "key_id": key_id(public_key),
            "sealed": Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM).encrypt(
                plain_identities(SealedIdentity(**identity) for identity in command.identities),
                public_key,
                COMMAND_INFO + command.idempotency_key.bytes,
            ),
        }
        return [Record(ERASURE_COMMANDS, command.request_id.bytes, self._commands.encode(record))]
