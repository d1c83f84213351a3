"""The packets of ClickHouse's native protocol, at one revision: reading a client's, writing a server's.

Revision 54429 is the first whose settings travel as text (below it a driver drops settings it does not
know, `insert_deduplication_token` among them) and lies before the columns' serialization byte (54454),
which the engine's Native format does not write. Source: ClickHouse, src/Core/ProtocolDefines.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from infra.local.clickhouse_endpoint.wire import ByteSource, ProtocolError, compressed_frames, text, varint

REVISION = 54429
_OLDEST_CLIENT = 54406
_TEXT_SETTINGS = 54429
_WRITTEN_ROWS = 54420
_QUERY_LIMIT = 256 << 20
_IMPORTANT = 1
_NO_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # not an overflow block, of no bucket


class ClientPacket(IntEnum):
    HELLO = 0
    QUERY = 1
    DATA = 2
    CANCEL = 3
    PING = 4


class ServerPacket(IntEnum):
    HELLO = 0
    DATA = 1
    EXCEPTION = 2
    PROGRESS = 3
    PONG = 4
    END_OF_STREAM = 5
    PROFILE_INFO = 6


@dataclass(frozen=True, slots=True)
class Hello:
    client: str
    revision: int
    database: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Hello({self.client!r}, {self.revision}, database={self.database!r}, user={self.user!r})"


@dataclass(frozen=True, slots=True)
class Setting:
    value: str
    important: bool
    """An unknown setting fails the query when it is important and is ignored when not."""


@dataclass(slots=True)
class Work:
    """What the engine has done for a query."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    client: str
    settings: dict[str, Setting]
    compressed: bool
    sql: str


def read_hello(source: ByteSource) -> Hello:
    if source.varint() != ClientPacket.HELLO:
        raise ProtocolError("the first packet is not a greeting")
    client, _major, _minor = source.text(), source.varint(), source.varint()
    hello = Hello(client, source.varint(), source.text(), source.text(), source.text())
    if hello.revision < _OLDEST_CLIENT:
        raise ProtocolError(f"a client of revision {hello.revision}: older than {_OLDEST_CLIENT}")
    return hello


def read_query(source: ByteSource, revision: int) -> Query:
    """The rest of a Query packet; `revision` is the lower of both sides'."""
    source.text()  # the query's id: the engine takes none
    client = ""
    if source.byte():  # the kind of query; 0 has no client information
        for _ in ("user", "query id", "address"):
            source.text()
        if source.byte() != 1:
            raise ProtocolError("a client that did not come by TCP")
        for _ in ("system user", "host"):
            source.text()
        client = source.text()
        for _ in ("major", "minor", "revision"):
            source.varint()
        source.text()  # quota key
        source.varint()  # patch
    settings = {}
    while name := source.text():
        if revision < _TEXT_SETTINGS:
            raise ProtocolError(f"settings of a client of revision {revision}: {_TEXT_SETTINGS} is needed")
        important = bool(source.varint() & _IMPORTANT)
        settings[name] = Setting(source.text(), important)
    source.varint()  # the stage to stop at: always the last
    compressed = bool(source.varint())
    return Query(client, settings, compressed, source.text(_QUERY_LIMIT))


def skip_block_info(source: ByteSource) -> None:
    while field := source.varint():
        if field not in (1, 2):
            raise ProtocolError(f"unknown field {field} before a block")
        source.skip(1 if field == 1 else 4)


def hello(version: tuple[int, int, int], timezone: str, name: str) -> bytes:
    major, minor, patch = version
    facts = [text("ClickHouse"), varint(major), varint(minor), varint(REVISION)]
    return b"".join([varint(ServerPacket.HELLO), *facts, text(timezone), text(name), varint(patch)])


def data(block: bytes, compressed: bool) -> bytes:
    """A Data packet of one block in Native format."""
    body = _NO_BLOCK_INFO + block
    return varint(ServerPacket.DATA) + text("") + (compressed_frames(body) if compressed else body)


def exception(code: int, message: str) -> bytes:
    kind = varint(ServerPacket.EXCEPTION) + struct.pack("<i", code)
    return kind + text("DB::Exception") + text(message) + text("") + b"\0"  # no stack trace, nothing nested


def progress(revision: int, work: Work) -> bytes:
    counts = [work.read_rows, work.read_bytes, 0]
    if revision >= _WRITTEN_ROWS:
        counts += [work.written_rows, work.written_bytes]
    return varint(ServerPacket.PROGRESS) + b"".join(varint(count) for count in counts)


def profile_info(rows: int, blocks: int, size: int) -> bytes:
    # Without the last byte ClickHouse's own command-line client gives up after each result.
    return varint(ServerPacket.PROFILE_INFO) + varint(rows) + varint(blocks) + varint(size) + b"\0\0\1"


PONG = varint(ServerPacket.PONG)
END_OF_STREAM = varint(ServerPacket.END_OF_STREAM)
