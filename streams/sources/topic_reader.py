"""Reads the rows of a Kafka topic of JSON or Avro, with a consumer group of its own, one for each mapping.

Offsets move only by `commit`, so a row that was not dealt with is read again. What cannot be read as a row is a
`Rejection` in its place.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import fastavro
import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.contracts import Contract, contract_of
from streams.serdes import CONFLUENT_HEADER, CONFLUENT_MARKER, SINGLE_OBJECT_HEADER, DecodeError, Registry
from streams.sources.expressions import Row
from streams.sources.mapping import Mapping as SourceMapping
from streams.sources.mapping import Position, Rejection
from streams.sources.readers import BATCH_ROWS, Read, SourceError, json_row

_MOVED = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._ASSIGNMENT_LOST,
)


def is_topic(mapping: SourceMapping) -> bool:
    """Whether a mapping's source is a Kafka topic."""
    return str(mapping.input["format"]).endswith("-topic")


class TopicReader:
    """A Kafka topic, from where the group `ingest-<mapping>` left it.

    Without `follow` it ends at the high watermarks of its start; with it, it goes on and shares the partitions with
    other readers of the group. The message key, where it is text, is in the row as `$key`.
    """

    def __init__(
        self,
        topic: str,
        mapping: SourceMapping,
        bootstrap: str,
        registry: Registry | None = None,
        *,
        follow: bool = False,
        config: Mapping[str, Any] | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._row = json_row if mapping.input["format"] == "json-topic" else _AvroRows(mapping, registry).row
        self._topic = topic
        self._ends: dict[int, int] = {}
        self._bounded = not follow
        self._consumer = Consumer(
            {
                "auto.offset.reset": "earliest",
                **(config or {}),
                "bootstrap.servers": bootstrap,
                "group.id": f"ingest-{mapping.name}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )
        try:
            self._start(follow, timeout)
        except KafkaException as error:
            self._consumer.close()
            raise SourceError(f"topic {topic} at {bootstrap}: {error.args[0].str()}") from error
        except SourceError:
            self._consumer.close()
            raise

    def _start(self, follow: bool, timeout: float) -> None:
        found = self._consumer.list_topics(self._topic, timeout=timeout).topics[self._topic]
        if found.error is not None or not found.partitions:
            raise SourceError(f"no topic {self._topic} in Kafka: for a file, use a mapping of a file format")
        if follow:
            self._consumer.subscribe([self._topic])
            return
        partitions = [TopicPartition(self._topic, number) for number in sorted(found.partitions)]
        self._consumer.assign(self._consumer.committed(partitions, timeout=timeout))
        for partition in partitions:
            low, high = self._consumer.get_watermark_offsets(partition, timeout=timeout)
            if high > low:
                self._ends[partition.partition] = high

    def batches(self) -> Iterator[list[Read]]:
        open_partitions = dict(self._ends)
        while open_partitions or not self._bounded:
            batch: list[Read] = []
            for message in self._consumer.consume(BATCH_ROWS, timeout=0.5):
                number, offset = message.partition(), message.offset()
                if message.error() is not None:
                    if message.error().code() == KafkaError._PARTITION_EOF:
                        open_partitions.pop(number, None)
                        continue
                    raise SourceError(f"topic {self._topic}: {message.error().str()}")
                if self._bounded and number not in open_partitions:
                    continue
                if self._bounded and offset >= open_partitions[number]:
                    del open_partitions[number]
                    continue
                batch.append(Read(Position(offset, number), self._read(message.value(), message.key())))
            yield batch

    def _read(self, value: bytes | None, key: bytes | None) -> Row | Rejection:
        if value is None:
            return Rejection("an empty message")
        row = self._row(value)
        if isinstance(row, dict) and key is not None:
            with suppress(UnicodeDecodeError):
                row["$key"] = key.decode()
        return row

    def commit(self, done: list[Read]) -> None:
        """Call when all events of these rows are acknowledged by Kafka, never before."""
        ends: dict[int, int] = {}
        for (offset, partition), _ in done:
            ends[partition] = max(offset, ends.get(partition, -1))
        if ends:
            offsets = [TopicPartition(self._topic, partition, offset + 1) for partition, offset in ends.items()]
            try:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as error:
                # A partition that went to another reader is read again there: same rows, same events.
                if self._bounded or error.args[0].code() not in _MOVED:
                    raise SourceError(
                        f"topic {self._topic}: offsets not committed ({error.args[0].str()}); "
                        "is another reader of the same mapping following it?"
                    ) from error

    def close(self) -> None:
        self._consumer.close()


class _AvroRows:
    """Avro messages as rows: Confluent's wire format through the registry, single-object encoding through the
    mapping's `input.schemas`."""

    def __init__(self, mapping: SourceMapping, registry: Registry | None) -> None:
        self._registry = registry
        self._by_header: dict[bytes, Contract] = {}
        for name in mapping.input.get("schemas", ()):
            file = mapping.directory / name
            try:
                found = contract_of(orjson.loads(file.read_bytes()))
            except (OSError, ValueError, KeyError, fastavro.schema.SchemaParseException) as error:
                raise SourceError(f"{file} is no Avro schema that can be read: {error}") from error
            self._by_header[b"\xc3\x01" + found.fingerprint] = found

    def row(self, value: bytes) -> Row | Rejection:
        size = CONFLUENT_HEADER if value[:1] == CONFLUENT_MARKER else SINGLE_OBJECT_HEADER
        written = self._schema(value[:size])
        if isinstance(written, Rejection):
            return written
        body = io.BytesIO(value[size:])
        try:
            row = fastavro.schemaless_reader(body, written.parsed, None)
        except Exception:  # Whatever fastavro stumbles over, the message is not what its header says.
            return Rejection("not a record of the Avro schema that its header names")
        if body.tell() != len(value) - size or type(row) is not dict:
            return Rejection("not a record of the Avro schema that its header names")
        return row

    def _schema(self, header: bytes) -> Contract | Rejection:
        found = self._by_header.get(header)
        if found is not None:
            return found
        if header[:1] != CONFLUENT_MARKER or len(header) != CONFLUENT_HEADER:
            return Rejection("an Avro schema that `input.schemas` of the mapping does not list")
        if self._registry is None:
            return Rejection("a schema id, and no schema registry is configured")
        try:
            found = contract_of(self._registry.schema(int.from_bytes(header[1:], "big")))
        except DecodeError:
            return Rejection("a schema id that the registry does not know")
        self._by_header[header] = found
        return found
