"""Avro records to and from message values, one at a time: headers, registry, unknown schemas.

Two wire formats are read everywhere: single-object encoding (`C3 01`, 8 bytes of fingerprint) and Confluent's
(`00`, 4 bytes of registry id). Which one is written depends on whether a registry is given. Volume does not come
through here: see `streams/columnar.py`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import fastavro

from streams.contracts import Contract, Schema, contract, contract_of, contracts, known_contracts

SINGLE_OBJECT_MARKER = b"\xc3\x01"
CONFLUENT_MARKER = b"\x00"
SINGLE_OBJECT_HEADER = 10
CONFLUENT_HEADER = 5


class DecodeError(Exception):
    """A message value that cannot be read. `error_class` is a stable word for dead letters; the text quotes no
    content."""

    error_class = "undecodable"


class UnknownSchemaError(DecodeError):
    """The header names a schema that neither the project nor the registry knows."""

    error_class = "unknown_schema"


class Registry(Protocol):
    """What the serdes need of a schema registry."""

    def schema(self, schema_id: int) -> Schema:
        """The schema of an id. Raises `UnknownSchemaError`, which refuses a message; any other error stops the job."""
        ...

    def register(self, subject: str, schema: Schema) -> int:
        """The id of a schema under a subject, registered if it is new."""
        ...


@dataclass(frozen=True)
class Writer:
    """Who wrote a value: its header and the contract that the header stands for."""

    header: bytes
    contract: Contract

    @property
    def is_current(self) -> bool:
        return contract(self.contract.name).fingerprint == self.contract.fingerprint


class SchemaBook:
    """Headers to contracts and back. With a registry, what is written carries registry ids."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry
        self._writers: dict[bytes, Writer] = {}
        self._headers: dict[str, bytes] = {}

    def writer(self, value: bytes) -> Writer:
        """Whose header a value starts with. Raises `DecodeError` or `UnknownSchemaError`."""
        if value.startswith(SINGLE_OBJECT_MARKER):
            header = value[:SINGLE_OBJECT_HEADER]
        elif value.startswith(CONFLUENT_MARKER):
            header = value[:CONFLUENT_HEADER]
        else:
            raise DecodeError("neither single-object encoding (C3 01) nor Confluent wire format (00)")
        known = self._writers.get(header)
        if known is None:
            known = self._writers[header] = Writer(header, self._look_up(header))
        return known

    def _look_up(self, header: bytes) -> Contract:
        if len(header) == SINGLE_OBJECT_HEADER:
            found = known_contracts().get(header[2:])
            if found is None:
                raise UnknownSchemaError(f"no schema has the fingerprint {header[2:].hex()}")
            return found
        if len(header) < CONFLUENT_HEADER or header[:1] != CONFLUENT_MARKER:
            raise DecodeError("shorter than its header")
        (schema_id,) = struct.unpack(">I", header[1:])
        if self._registry is None:
            raise UnknownSchemaError(f"schema id {schema_id}: no schema registry is configured (schema_registry_url)")
        schema = self._registry.schema(schema_id)
        try:
            found = contract_of(schema)
        except Exception as error:
            # Anybody may register anything, such as a schema that refers to others.
            raise UnknownSchemaError(f"schema id {schema_id} cannot be used: {type(error).__name__}") from error
        ours = contracts().get(found.name)
        if ours is None or _full_name(found.schema) != _full_name(ours.schema):
            raise UnknownSchemaError(f"schema id {schema_id} is a {_full_name(schema)}, which is no contract of ours")
        return found

    def header(self, name: str) -> bytes:
        """The header to write in front of a record of the current contract `name`."""
        header = self._headers.get(name)
        if header is None:
            written = contract(name)
            if self._registry is None:
                header = SINGLE_OBJECT_MARKER + written.fingerprint
            else:
                schema_id = self._registry.register(_full_name(written.schema), written.schema)
                header = CONFLUENT_MARKER + struct.pack(">I", schema_id)
            self._headers[name] = header
        return header


def _full_name(schema: Schema) -> str:
    name, namespace = schema["name"], schema.get("namespace")
    return name if "." in name or not namespace else f"{namespace}.{name}"


def encode_body(parsed: Schema, record: Mapping[str, Any]) -> bytes:
    """A record without header. `parsed` as `Contract.parsed`; times may be integers of milliseconds."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, parsed, dict(record))
    return body.getvalue()


class Serializer:
    """Encodes records of one current contract, e.g. `Serializer("DataShared").encode({...})`.

    `event_id` and other UUIDs may be 16 bytes; times may be integers of milliseconds since 1970, UTC.
    """

    def __init__(self, schema_name: str, registry: Registry | None = None) -> None:
        self._parsed = contract(schema_name).parsed
        self.header = SchemaBook(registry).header(schema_name)

    def encode(self, record: Mapping[str, Any]) -> bytes:
        return self.header + encode_body(self._parsed, record)


def decode_body(written: Contract, body: bytes, reader: Contract | None = None) -> dict[str, Any]:
    """A record written under `written`, as `reader` (else the current contract of that name) has it.

    Every byte must be used. Times come as integers of milliseconds and UUIDs as 16 bytes, which is what all of our
    code works with. Raises `DecodeError`.
    """
    stream = io.BytesIO(body)
    try:
        record = fastavro.schemaless_reader(stream, _plain(written), _plain(reader or contract(written.name)))
    except Exception as error:
        raise DecodeError(f"not a {written.name}: {type(error).__name__}") from error
    if stream.tell() != len(body):
        raise DecodeError(f"not a {written.name}: {len(body) - stream.tell()} bytes left over")
    return dict(record)  # type: ignore[arg-type]


class Deserializer:
    """Decodes message values of any known contract: `decode(value) -> (name, record)`."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._book = SchemaBook(registry)

    def decode(self, value: bytes) -> tuple[str, dict[str, Any]]:
        """Raises `DecodeError`, `UnknownSchemaError`."""
        writer = self._book.writer(value)
        return writer.contract.name, decode_body(writer.contract, value[len(writer.header) :])


_plain_schemas: dict[bytes, Any] = {}


def _plain(written: Contract) -> Any:
    """The contract without logical types: integers and bytes instead of datetimes and UUID objects."""
    if written.fingerprint not in _plain_schemas:
        _plain_schemas[written.fingerprint] = fastavro.parse_schema(_without_logical_types(written.schema))
    return _plain_schemas[written.fingerprint]


def _without_logical_types(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_logical_types(value) for key, value in node.items() if key != "logicalType"}
    if isinstance(node, list):
        return [_without_logical_types(value) for value in node]
    return node
