"""The workload that benchmarks share: people with consents, and their telemetry and disclosures, straight into Kafka.

Seeded. Events are drawn from a few hundred shapes, as an app's are; ids, people and times are random.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from streams.kafka import Kafka
from streams.serdes import SchemaBook, Serializer
from streams.topics import CONSENT, SHARING, TELEMETRY, apply, plan

START = 1_767_225_600_000  # 2026-01-01T00:00:00Z, ms
SPAN = 90 * 24 * 3600 * 1000
FIELDS = ["ip_address", "idfa", "model", "os_version", "app_version", "time_zone", "network_state", "session_start"]
CATEGORIES = ["user.device", "user.device.ip_address", "user.device.device_id", "user.telemetry", "user.account"]


@dataclass(frozen=True)
class Workload:
    """How much: `people`, each with three consent changes, and `events`, a tenth of them disclosures."""

    people: int = 50_000
    events: int = 1_000_000
    seed: int = 7

    @property
    def consents(self) -> int:
        return 3 * self.people

    def aliases(self) -> list[bytes]:
        rng = random.Random(self.seed)
        return [rng.randbytes(16) for _ in range(self.people)]

    def make_topics(self, kafka: Kafka) -> None:
        """The catalogue, on a cluster that should be empty."""
        admin = kafka.admin()
        apply(admin, plan(admin))

    def produce_consents(self, kafka: Kafka) -> None:
        _produce(kafka, CONSENT, self.consents_of(self.aliases()))

    def produce_events(self, kafka: Kafka) -> None:
        aliases = self.aliases()
        _produce(kafka, TELEMETRY, self._telemetry(aliases))
        _produce(kafka, SHARING, self._disclosures(aliases))

    def consents_of(self, aliases: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        rng = random.Random(self.seed + 1)
        accept = _encoder("ConsentChanged", {"action": "accept", "version": 1})
        changes = [
            _encoder("ConsentChanged", {"action": action, "activity": "use", "purpose": purpose})
            for action in ("withdraw", "grant")
            for purpose in ("push", "ad_recommendation", "ad_measurement", "*")
        ]
        for alias in aliases:
            yield alias, accept(rng.randbytes(16), START - rng.randrange(SPAN), None)
            for _ in range(2):
                yield alias, rng.choice(changes)(rng.randbytes(16), START + rng.randrange(SPAN), None)

    def _telemetry(self, aliases: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        rng = random.Random(self.seed + 2)
        types = ["app_open", "screen_view", "login", "crash", "push_received", "ad_impression", "ad_click", "purchase"]
        shapes = [
            _encoder(
                "TelemetryCollected",
                {
                    "event_type": rng.choice(types),
                    "fields": rng.sample(FIELDS, rng.randrange(2, 6)),
                    "region": "CN",
                    "storage_country": "CN",
                    "source": "app",
                },
            )
            for _ in range(200)
        ]
        return _draw(rng, self.events - self.events // 10, aliases, shapes, False)

    def _disclosures(self, aliases: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        rng = random.Random(self.seed + 3)
        shapes = [
            _encoder(
                "DataShared",
                {
                    "activity": "share",
                    "discloser": "self",
                    "recipient": f"partner-{rng.randrange(20)}",
                    "purpose": rng.choice(["service", "development", "ad_measurement", "personalisation"]),
                    "categories": rng.sample(CATEGORIES, rng.randrange(1, 4)),
                    "region": "CN",
                    "source": "app",
                },
            )
            for _ in range(100)
        ]
        return _draw(rng, self.events // 10, aliases, shapes, True)


def recipients() -> list[dict[str, Any]]:
    """The registry of the workload: twenty partners under contract."""
    return [
        {
            "id": f"partner-{i}",
            "kind": "partner",
            "effective_at": START - SPAN,
            "country": "CN",
            "purposes": ["service", "development", "ad_measurement", "personalisation"],
            "categories": ["user.device", "user.telemetry"],
            "contract_from": START - SPAN,
        }
        for i in range(20)
    ]


def _produce(kafka: Kafka, topic: str, records: Iterator[tuple[bytes, bytes]]) -> None:
    producer = kafka.producer()
    while batch := [{"key": key, "value": value} for key, value in islice(records, 50_000)]:
        if producer.produce_batch(topic, batch) != len(batch) or producer.flush(60):
            raise TimeoutError(f"{topic}: the broker did not take all records")


_Encode = Callable[[bytes, int, "int | None"], bytes]


def _draw(
    rng: random.Random, n: int, aliases: list[bytes], shapes: list[_Encode], collected: bool
) -> Iterator[tuple[bytes, bytes]]:
    for _ in range(n):
        at = START + rng.randrange(SPAN)
        collected_at = at - rng.randrange(SPAN) if collected else None
        yield rng.choice(aliases), rng.choice(shapes)(rng.randbytes(16), at, collected_at)


def _encoder(name: str, record: dict[str, Any]) -> _Encode:
    """Encodes records that differ in id and times only: the rest is encoded once."""
    header = SchemaBook().header(name)
    collected = name == "DataShared"
    body = Serializer(name).encode({**record, "event_id": bytes(16), "occurred_at": 0})[len(header) :]
    tail = body[16 + 1 + collected :]

    def encode(event_id: bytes, occurred_at: int, collected_at: int | None) -> bytes:
        optional = b"" if not collected else b"\x00" if collected_at is None else b"\x02" + _varint(collected_at)
        return b"".join((header, event_id, _varint(occurred_at), optional, tail))

    return encode


def _varint(number: int) -> bytes:
    number <<= 1
    low = b""
    while number > 127:
        low += bytes((number & 127 | 128,))
        number >>= 7
    return low + bytes((number,))
