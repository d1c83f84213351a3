"""What the jobs `links` and `requests` project: topic `subject-state` → table `subjects`, so that an auditor can look a
person up by user id; topic `erasure-state` → table `erasure_requests`, for the command line, the API and the pages.

Run by projector.py. An alias outlives its use in neither table: what is overtaken is deleted, not only outvoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from clickhouse_driver import Client
from confluent_kafka import Message

from sinks.clickhouse.erasures import erasure_row, insert_erasure_states
from sinks.clickhouse.insert import insert_subjects
from sinks.clickhouse.purge import purge_stale
from streams.serdes import DecodeError, Deserializer, Registry, SchemaBook
from streams.subjects import ALIAS_SIZE
from streams.topics import ERASURE_STATE, SUBJECT_STATE

SUBJECT_SIZE = 16
NO_SUBJECT = bytes(SUBJECT_SIZE)
# Of a union of null and fixed, the encoding of the second branch. `subject` is the record's first field.
_IS_SUBJECT = b"\x02"
# Below max.poll.interval.ms: a worker that deletes for longer would lose its partitions.
_SETTLE_TIMEOUT_S = 240.0


class Links:
    """Which subject an alias stands for."""

    job = "links"
    topic = SUBJECT_STATE

    def __init__(self, client: Client, registry: Registry | None = None) -> None:
        self._client = client
        self._book = SchemaBook(registry)
        self._deserializer = Deserializer(registry)

    def insert(self, last: Mapping[bytes, Message]) -> bool:
        aliases = np.frombuffer(b"".join(last), np.uint8).reshape(-1, ALIAS_SIZE)
        subjects = [self._subject(message) for message in last.values()]
        rows = np.frombuffer(b"".join(subjects), np.uint8).reshape(-1, SUBJECT_SIZE)
        versions = np.fromiter((message.offset() for message in last.values()), np.uint64, len(last))
        insert_subjects(self._client, aliases, rows, versions, _token(self.topic))
        return NO_SUBJECT in subjects

    def settle(self) -> int:
        return purge_stale(self._client, "subjects", _SETTLE_TIMEOUT_S)

    def row(self, message: Message) -> dict[str, Any]:
        """What the table says of the record, but for key and version. Raises `DecodeError`."""
        return {"subject": UUID(bytes=self._subject(message))}

    def _subject(self, message: Message) -> bytes:
        """The subject's 16 bytes; zeros where there is none any more."""
        value = message.value()
        if value is None:
            return NO_SUBJECT
        writer = self._book.writer(value)
        if writer.contract.name != "SubjectState":
            raise _stranger(message, "SubjectState")
        if writer.is_current:
            start = len(writer.header)
            if value[start : start + 1] != _IS_SUBJECT:
                return NO_SUBJECT
            return bytes(value[start + 1 : start + 1 + SUBJECT_SIZE])
        _, record = self._deserializer.decode(value)
        return record["subject"] or NO_SUBJECT


class Requests:
    """How each erasure request stands."""

    job = "requests"
    topic = ERASURE_STATE

    def __init__(self, client: Client, registry: Registry | None = None) -> None:
        self._client = client
        self._deserializer = Deserializer(registry)

    def insert(self, last: Mapping[bytes, Message]) -> bool:
        messages = [message for message in last.values() if message.value() is not None]
        states = [self._state(message) for message in messages]
        insert_erasure_states(self._client, states, [m.offset() for m in messages], _token(self.topic))
        return any(state["ended_at"] is not None for state in states)

    def settle(self) -> int:
        return purge_stale(self._client, "erasing", _SETTLE_TIMEOUT_S)

    def row(self, message: Message) -> dict[str, Any]:
        """What the table says of the record, but for key and version. Raises `DecodeError`."""
        return erasure_row(self._state(message))

    def _state(self, message: Message) -> dict[str, Any]:
        value = message.value()
        name, record = ("", {}) if value is None else self._deserializer.decode(value)
        if name != "ErasureState":
            raise _stranger(message, "ErasureState")
        return record


def _token(topic: str) -> str:
    """Never the same twice: one that was recorded without its rows would make the next try a silent loss."""
    return f"{topic}:{uuid4()}"


def _stranger(message: Message, wanted: str) -> DecodeError:
    return DecodeError(f"{message.topic()}/{message.partition()}/{message.offset()}: not of type {wanted}")
