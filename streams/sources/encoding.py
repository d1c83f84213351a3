"""Mapped events as message values, fast: all but the head of a record is encoded once for each distinct combination.

Writes the current contracts only, byte for byte what `streams.serdes.Serializer` writes.
"""

from typing import Any

from streams.contracts import contract
from streams.serdes import Registry, Serializer
from streams.sources.events import EVENTS, REMEMBERED, Mapped


class Encoder:
    """Encodes mapped events as message values, one writer schema for each topic.

    A record's encoding is that of its fields in order, and all fields behind the head repeat a lot: they are
    encoded once for each distinct combination, the head is put before them.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        self._encoders = {topic: _TopicEncoder(topic, registry) for topic in EVENTS}

    def encode(self, event: Mapped) -> bytes:
        return self._encoders[event.topic].encode(event)


class _TopicEncoder:
    def __init__(self, topic: str, registry: Registry | None) -> None:
        self._serializer = Serializer(EVENTS[topic].contract, registry)
        self._head_size = len(self._serializer.header) + 16 + 1
        self._has_collected_at = EVENTS[topic].has_collected_at
        if self._has_collected_at:
            self._head_size += 1
        names = contract(EVENTS[topic].contract).field_names
        head = ["event_id", "occurred_at", *(["collected_at"] if self._has_collected_at else [])]
        if names != [*head, *EVENTS[topic].fields]:
            raise AssertionError(f"{EVENTS[topic].contract}: its fields are not those that the edge writes")
        self._tails: dict[tuple[Any, ...], bytes] = {}

    def encode(self, event: Mapped) -> bytes:
        tail = self._tails.get(event.values)
        if tail is None:
            if len(self._tails) >= REMEMBERED:
                self._tails.clear()
            # A head of zeros has a known length: 16 bytes of id, one of time, one of an absent collected_at.
            blank = event._replace(event_id=bytes(16), occurred_at=0, collected_at=None)
            tail = self._tails[event.values] = self._serializer.encode(blank.record())[self._head_size :]
        head = self._serializer.header + event.event_id + _long(event.occurred_at)
        if not self._has_collected_at:
            return head + tail
        if event.collected_at is None:
            return head + b"\x00" + tail
        return head + b"\x02" + _long(event.collected_at) + tail


def _long(value: int) -> bytes:
    """A non-negative long in Avro's zig-zag varint (Avro specification, "Binary encoding")."""
    value <<= 1
    if 1 << 35 <= value < 1 << 42:  # six bytes: every time from 1970-07 to 2039
        return bytes(
            (
                value & 0x7F | 0x80,
                value >> 7 & 0x7F | 0x80,
                value >> 14 & 0x7F | 0x80,
                value >> 21 & 0x7F | 0x80,
                value >> 28 & 0x7F | 0x80,
                value >> 35,
            )
        )
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
