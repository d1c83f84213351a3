"""Simulated recipients that take their commands from a real broker, and answer there."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import yaml
from confluent_kafka import Message
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from infra.simulator.recipients import Profile, RecipientSimulator
from streams.identities import Identity, key_id, load_public_key, plain_identities
from streams.kafka import Kafka
from streams.scan import scan
from streams.serdes import DecodeError, Deserializer, Serializer
from tests.kafka_fixture import KafkaForTests

EMAIL = Identity("email", "raw", "wang.fang@example.org")
FAST = Profile(start_s=(0.02, 0.03), complete_s=(0.1, 0.15))


class Commands:
    """Sends commands as the controller does, and reads the receipts of one request."""

    def __init__(self, kafka: KafkaForTests) -> None:
        self.kafka = Kafka(kafka.bootstrap)
        # Of its own: what is malformed would trip other readers of the real ones.
        self.topics = kafka.new_topic("erasure-commands"), kafka.new_topic("erasure-receipts")
        self._producer = self.kafka.producer()
        self.request_id = uuid4()

    def simulator(self, folder: Path, *targets: str) -> RecipientSimulator:
        spoken = dict.fromkeys(targets, "kafka")
        return RecipientSimulator(folder, spoken, FAST, kafka=self.kafka, topics=self.topics)

    def send(self, simulator: RecipientSimulator, target: str, key: UUID, attempt: int = 1, seal_as: str = "") -> None:
        entry = yaml.safe_load(simulator.connectors_yaml())["recipients"][seal_as or target]
        public_key = load_public_key(Path(entry["public_key"]).read_bytes())
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
        record = {
            "request_id": self.request_id.bytes,
            "target": target,
            "occurred_at": int(time.time() * 1000),
            "idempotency_key": key.bytes,
            "attempt": attempt,
            "due_at": int(time.time() * 1000) + 86_400_000,
            "key_id": key_id(public_key),
            "sealed": suite.encrypt(plain_identities([EMAIL]), public_key, b"lineage erasure command v1" + key.bytes),
        }
        value = Serializer("ErasureCommanded").encode(record)
        self._producer.produce(self.topics[0], key=self.request_id.bytes, value=value)
        assert self._producer.flush(10) == 0

    def receipts(self) -> list[dict[str, Any]]:
        """Those of the request, in order."""
        return [found for message in self.messages() if (found := _decoded(message))]

    def messages(self) -> list[Message]:
        found = [message for batch in scan(self.kafka, self.topics[1]) for message in batch]
        return [message for message in found if message.key() == self.request_id.bytes]

    def answers(self, key: UUID) -> list[str]:
        return [found["answer"] for found in self.receipts() if found["idempotency_key"] == key.bytes]


def _decoded(message: Message) -> dict[str, Any] | None:
    try:
        return Deserializer().decode(message.value())[1]
    except DecodeError:
        return None


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < seconds, "it did not come true"
        time.sleep(0.05)


def test_commands_are_opened_done_and_answered(kafka: KafkaForTests, tmp_path: Path) -> None:
    commands = Commands(kafka)
    target, other = kafka.topic_name("glacier"), kafka.topic_name("harbour")
    key = uuid4()
    with commands.simulator(tmp_path, target, other) as simulator:
        commands.send(simulator, target, key)
        until(lambda: len(commands.answers(key)) == 2)
        first, second = commands.receipts()
        assert [first["answer"], second["answer"]] == ["acknowledged", "completed"]
        assert (second["target"], second["grade"], second["source"]) == (target, "claimed", "kafka")
        truth = simulator.truth()[target]["commands"][0]
        assert truth["deleted_at"]
        assert truth["identifiers"] == simulator.hashes([EMAIL._asdict()])
        assert simulator.truth()[other]["commands"] == []

        # Asked again, it says again how it stands.
        commands.send(simulator, target, key, attempt=2)
        until(lambda: commands.answers(key) == ["acknowledged", "completed", "completed"])
        truth = simulator.truth()[target]["commands"][0]
        assert (truth["outcomes"], truth["attempts"]) == (["accepted", "repeated"], [1, 2])

        sealed_to_another = uuid4()
        commands.send(simulator, target, sealed_to_another, seal_as=other)
        until(lambda: commands.answers(sealed_to_another) == ["failed"])
        assert simulator.truth()[target]["shown"] == {"unopened": 1}

    # A later simulator on the same folder has read what there was, and goes on.
    later = uuid4()
    with commands.simulator(tmp_path, target, other) as simulator:
        commands.send(simulator, target, later)
        until(lambda: commands.answers(later) == ["acknowledged", "completed"])
        assert [entry["times_seen"] for entry in simulator.truth()[target]["commands"]] == [2, 1]


def test_misbehaviour_over_kafka(kafka: KafkaForTests, tmp_path: Path) -> None:
    commands = Commands(kafka)
    target = kafka.topic_name("glacier")
    with commands.simulator(tmp_path, target) as simulator:

        def told(expected: list[str], **changes: float) -> UUID:
            key = uuid4()
            simulator.change(target, replace(FAST, **changes))  # type: ignore[arg-type]
            commands.send(simulator, target, key)
            until(lambda: len(commands.answers(key)) >= len(expected))
            assert commands.answers(key) == expected
            return key

        told(["failed"], refuse=1.0)
        told(["acknowledged", "exempt"], exempt=1.0)
        told(["acknowledged", "acknowledged", "completed", "completed"], duplicate_callback=1.0)
        told(["completed", "acknowledged"], reorder_callbacks=1.0)
        before = len(commands.messages()) - len(commands.receipts())
        told(["acknowledged", "completed"], malformed=1.0)
        assert len(commands.messages()) - len(commands.receipts()) == before + 2
        told(["acknowledged"], never=1.0)

        silent, unheard = uuid4(), uuid4()
        simulator.change(target, replace(FAST, error_500=1.0))
        commands.send(simulator, target, unheard)
        until(lambda: simulator.truth()[target]["shown"].get("error_500") == 1)
        simulator.change(target, replace(FAST, lose_callback=1.0))
        commands.send(simulator, target, silent)
        until(lambda: simulator.truth()[target]["commands"][-1]["state"] == "completed")
        assert commands.answers(silent) == commands.answers(unheard) == []
