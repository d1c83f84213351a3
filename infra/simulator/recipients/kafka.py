"""Simulated recipients that take commands from the topic `erasure-commands` and answer on `erasure-receipts`.

Opens what is sealed to a recipient with its own key. Reads only what is for its recipients; commits what it has
answered or means to answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from infra.simulator.recipients.certificates import Certificates
from infra.simulator.recipients.recipient import REFUSAL, Recipient, now_ms
from infra.simulator.recipients.register import FINAL, Entry
from processors.erasure_commands import Identity
from streams.kafka import Kafka
from streams.serdes import DecodeError, Deserializer, Registry, Serializer
from streams.topics import ERASURE_COMMANDS, ERASURE_RECEIPTS

_INFO = b"lineage erasure command v1"
_ANSWERS = {"in_progress": "acknowledged", "completed": "completed", "exempt": "exempt"}


class KafkaRecipients:
    """The recipients of one simulator that speak Kafka. `group`: the consumer group that remembers how far it read;
    `topics`: of commands and of receipts."""

    def __init__(
        self,
        kafka: Kafka,
        recipients: Mapping[str, Recipient],
        certificates: Certificates,
        group: str,
        registry: Registry | None = None,
        topics: tuple[str, str] = (ERASURE_COMMANDS, ERASURE_RECEIPTS),
    ) -> None:
        self._kafka = kafka
        self._commands_topic, self._receipts_topic = topics
        self._recipients = recipients
        self._keys = {name: certificates.opening_key(name) for name in recipients}
        self._group = group
        self._commands = Deserializer(registry)
        self._receipts = Serializer("ErasureReceipt", registry)
        self._held: dict[tuple[str, str], bytes] = {}
        self._producer: Producer | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Also tells what a restart kept from being told. Raises `KafkaException` when the broker cannot be asked."""
        self._producer = self._kafka.producer(**{"linger.ms": 5})
        consumer = self._kafka.consumer(self._group)
        await asyncio.to_thread(consumer.list_topics, self._commands_topic, 30)
        consumer.subscribe([self._commands_topic])
        for recipient in self._recipients.values():
            for entry in recipient.entries():
                if entry.state in _ANSWERS and entry.state not in {told["status"] for told in entry.callbacks}:
                    self.tell(recipient, entry, entry.state)
        self._task = asyncio.get_running_loop().create_task(self._run(consumer))

    async def stop(self) -> None:
        self._stopping = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        # Here and not in a thread: what is told of deliveries goes into the register.
        for _ in range(1_000):
            if not self._producer or not len(self._producer):
                break
            self._producer.poll(0)
            await asyncio.sleep(0.01)
        self._producer = None

    def tell(self, recipient: Recipient, entry: Entry, status: str) -> None:
        """Writes a receipt of what a command has come to, or what the profile makes of it."""
        # A command that comes again is answered again, with as much luck as the first time.
        about = (entry.key, entry.lives, status, len(entry.outcomes))
        if recipient.shows("lose_callback", *about):
            recipient.told(entry.key, status, "lost")
            return
        receipt = self._receipt(recipient.name, entry, _ANSWERS[status], entry.ground if status == "exempt" else "")

        def told(error: KafkaError | None, _: Message) -> None:
            recipient.told(entry.key, status, "failed" if error else "delivered")

        place = (recipient.name, entry.key)
        if status == "in_progress" and recipient.shows("reorder_callbacks", *about):
            self._held[place] = receipt
            return
        if recipient.shows("malformed", *about):
            self._send(entry, receipt[: len(receipt) // 2])
        for _ in range(2 if recipient.shows("duplicate_callback", *about) else 1):
            self._send(entry, receipt, told)
        if status in FINAL and place in self._held:
            self._send(entry, self._held.pop(place))

    async def _run(self, consumer: Consumer) -> None:
        try:
            while not self._stopping:
                for message in await asyncio.to_thread(consumer.consume, 100, 0.2):
                    error = message.error()
                    if error is None:
                        self._take(message)
                        consumer.commit(message=message, asynchronous=True)
                    elif error.fatal() or not (error.retriable() or error.code() == KafkaError._PARTITION_EOF):
                        raise KafkaException(error)
                assert self._producer is not None
                self._producer.poll(0)
        finally:
            await asyncio.to_thread(consumer.close)

    def _take(self, message: Message) -> None:
        try:
            name, record = self._commands.decode(message.value() or b"")
        except DecodeError:
            return
        recipient = self._recipients.get(record.get("target", ""))
        if name != "ErasureCommanded" or recipient is None:
            return
        key = str(UUID(bytes=record["idempotency_key"]))
        context = {"request_id": str(UUID(bytes=record["request_id"]))}
        identities = self._opened(recipient.name, record)
        if identities is None:
            recipient.note("unopened")
            self._refuse(recipient, key, context, "it is not sealed to our key")
            return
        asked = recipient.ask(key, identities, (), record["attempt"], context)
        if asked.outcome == "repeated" and asked.entry.state in _ANSWERS:
            self.tell(recipient, asked.entry, asked.entry.state)
        elif asked.outcome == "unsupported":
            self._refuse(recipient, key, context, "none of these identities is known here")
        elif asked.outcome == "refused":
            self._refuse(recipient, key, context, REFUSAL)

    def _refuse(self, recipient: Recipient, key: str, context: Mapping[str, str], why: str) -> None:
        entry = Entry(key, context=dict(context))
        self._send(entry, self._receipt(recipient.name, entry, "failed", why))

    def _opened(self, recipient: str, record: Mapping[str, Any]) -> list[Identity] | None:
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
        try:
            plain = suite.decrypt(record["sealed"], self._keys[recipient], _INFO + record["idempotency_key"])
            identities: list[Identity] = orjson.loads(plain)
        except (InvalidTag, ValueError):
            return None
        return identities

    def _receipt(self, recipient: str, entry: Entry, answer: str, ground: str) -> bytes:
        # The recipient's own words, whatever they are worth: the controller grades them.
        said = orjson.dumps({"recipient": recipient, "command": entry.key, "answer": answer})
        return self._receipts.encode(
            {
                "request_id": UUID(entry.context["request_id"]).bytes,
                "target": recipient,
                "occurred_at": now_ms(),
                "idempotency_key": UUID(entry.key).bytes,
                "answer": answer,
                "grade": "acknowledged" if answer == "acknowledged" else "claimed",
                "detail": f"the recipient says {answer}",
                "ground": ground,
                "evidence": hashlib.sha256(said).hexdigest(),
                "source": "kafka",
            }
        )

    def _send(
        self, entry: Entry, value: bytes, on_delivery: Callable[[KafkaError | None, Message], None] | None = None
    ) -> None:
        assert self._producer is not None
        key = UUID(entry.context["request_id"]).bytes
        self._producer.produce(self._receipts_topic, key=key, value=value, on_delivery=on_delivery)
