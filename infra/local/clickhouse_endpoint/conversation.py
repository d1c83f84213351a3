"""One client of the endpoint, from its greeting to its end: packets in, engine, packets out.

Never leaves a connection out of step: an error of the engine is answered and the connection goes on; an
error of the protocol ends it. Never logs the text of a query or of an error: they hold people's data.
"""

from __future__ import annotations

import hmac
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from infra.local.clickhouse_endpoint import packets
from infra.local.clickhouse_endpoint.blocks import (
    BlockShape,
    UnsupportedType,
    header_block,
    measure_of,
    pass_block,
    row_count,
    split_blocks,
)
from infra.local.clickhouse_endpoint.cancel import Canceller, Running
from infra.local.clickhouse_endpoint.engine import QUERY_WAS_CANCELLED, EngineError, Session, Spool
from infra.local.clickhouse_endpoint.packets import ClientPacket, Query
from infra.local.clickhouse_endpoint.statements import (
    InsertOfBlocks,
    insert_of_blocks,
    without_format,
)
from infra.local.clickhouse_endpoint.wire import ByteSource, Disconnected, ProtocolError, unpacked_frame

log = logging.getLogger(__name__)

_RECEIVE = 1 << 19
_NOT_IMPLEMENTED = 48
_UNEXPECTED_PACKET = 101
_AUTHENTICATION_FAILED = 516
_COMMAND_LINE_CLIENT = "ClickHouse client"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the endpoint tells a client about itself, and what it asks of one."""

    version: tuple[int, int, int]
    timezone: str
    host: str
    user: str
    password: str

    def admits(self, hello: packets.Hello) -> bool:
        user = hmac.compare_digest(hello.user.encode(), self.user.encode())
        return hmac.compare_digest(hello.password.encode(), self.password.encode()) and user


class Conversation:
    def __init__(
        self, client: socket.socket, number: int, path: Path, identity: Identity, canceller: Canceller
    ) -> None:
        self._client = client
        self._mark = f"client {number}"
        self._path = path
        self._identity = identity
        self._canceller = canceller
        self._source = ByteSource(lambda: client.recv(_RECEIVE))
        self._revision = 0
        self._session: Session | None = None

    def hold(self) -> None:
        """Serves the client until it leaves. Raises nothing that the client causes."""
        try:
            self._session = self._greet()
            while self._session is not None:
                self._answer(ClientPacket(self._source.varint()), self._session)
        except (Disconnected, ConnectionError, BrokenPipeError):
            return
        except (ProtocolError, UnsupportedType, ImportError, ValueError) as error:
            log.error("%s: closed: %s", self._mark, error)
            self._send_last(packets.exception(_UNEXPECTED_PACKET, f"DB::Exception: {error}"))
        finally:
            if self._session is not None:
                self._session.close()

    def _greet(self) -> Session | None:
        hello = packets.read_hello(self._source)
        self._revision = min(hello.revision, packets.REVISION)
        if not self._identity.admits(hello):
            log.warning("%s: refused: wrong user or password", self._mark)
            refusal = f"DB::Exception: {hello.user}: Authentication failed: user or password is wrong"
            self._send_last(packets.exception(_AUTHENTICATION_FAILED, refusal))
            return None
        session = Session(self._path, self._mark)
        try:
            if hello.database:
                session.use(hello.database)
        except EngineError as error:
            session.close()
            self._send_last(packets.exception(error.code, str(error)))
            return None
        self._send(packets.hello(self._identity.version, self._identity.timezone, self._identity.host))
        return session

    def _answer(self, kind: ClientPacket, session: Session) -> None:
        if kind is ClientPacket.PING:
            self._send(packets.PONG)
        elif kind is ClientPacket.QUERY:
            self._answer_query(packets.read_query(self._source, self._revision), session)
        elif kind is not ClientPacket.CANCEL:  # one that came too late is of no query
            raise ProtocolError(f"an unexpected {kind.name} packet")

    def _answer_query(self, query: Query, session: Session) -> None:
        try:
            with ExitStack() as sent_along:
                self._run(query, [*self._tables_sent_along(query, sent_along)], sent_along, session)
        except EngineError as error:
            self._send(packets.exception(error.code, str(error)))
        else:
            self._send(packets.progress(self._revision, session.work) + packets.END_OF_STREAM)

    def _run(
        self, query: Query, tables: list[tuple[str, BlockShape, Spool]], sent_along: ExitStack, session: Session
    ) -> None:
        session.begin(query.settings)
        streams = session.streams(query.sql)
        for name, shape, spool in tables:
            sent_along.enter_context(session.temporary_table(name, shape.columns, spool))
        insert = insert_of_blocks(query.sql, ignore_inline_rows=query.client == _COMMAND_LINE_CLIENT)
        if insert is not None:
            self._take_blocks(insert, query, session)
        else:
            self._give_result(without_format(query.sql), streams, query.compressed, session)

    def _tables_sent_along(self, query: Query, spools: ExitStack) -> Iterator[tuple[str, BlockShape, Spool]]:
        """External tables: every query is followed by their blocks and an empty one."""
        while True:
            if ClientPacket(self._source.varint()) is not ClientPacket.DATA:
                raise ProtocolError("a query without its end of data")
            name = self._source.text()
            spool = spools.enter_context(Spool())
            shape = self._receive_block(spool, query.compressed)
            if not shape.columns:
                return
            yield name, shape, spool

    def _take_blocks(self, insert: InsertOfBlocks, query: Query, session: Session) -> None:
        columns = session.columns_of(insert.sample())
        try:
            for _, type_name in columns:
                measure_of(type_name)
        except UnsupportedType as error:
            raise EngineError(_NOT_IMPLEMENTED, f"DB::Exception: {error}") from error
        self._send(packets.data(header_block(columns), query.compressed))
        with Spool() as spool:
            while True:
                kind = ClientPacket(self._source.varint())
                if kind is ClientPacket.CANCEL:
                    return
                if kind is not ClientPacket.DATA:
                    raise ProtocolError(f"a {kind.name} packet among the blocks of an INSERT")
                self._source.text()
                if not self._receive_block(spool, query.compressed).columns:
                    break
            if spool.rows:
                with self._watched():
                    session.insert(insert, spool)

    def _receive_block(self, spool: Spool, compressed: bool) -> BlockShape:
        source = self._source
        if compressed:
            source = ByteSource(lambda: unpacked_frame(self._source))
        packets.skip_block_info(source)
        source.record_to(spool.descriptor)
        shape = pass_block(source)
        source.stop_recording()
        if compressed and source.ahead is not None:
            raise ProtocolError("bytes behind a block in its frame")
        spool.rows += shape.rows
        return shape

    def _give_result(self, sql: str, streams: bool, compressed: bool, session: Session) -> None:
        with self._watched() as running:
            if streams:
                self._give_stream(sql, compressed, session, running)
            else:
                self._give_blocks(session.run(sql), compressed)

    def _give_blocks(self, result: bytes, compressed: bool) -> None:
        try:
            blocks = [*split_blocks(result)]
        except UnsupportedType as error:
            raise EngineError(_NOT_IMPLEMENTED, f"DB::Exception: {error}") from error
        for shape, _ in blocks[:1]:
            self._send(packets.data(shape.header(), compressed))
        for _, block in blocks:
            self._send(packets.data(block, compressed))

    def _give_stream(self, sql: str, compressed: bool, session: Session, running: Running) -> None:
        rows = blocks = size = 0
        header_sent = finished = False
        stream = session.stream(sql)
        try:
            for block in stream:
                if running.cancelled or running.stopped:
                    break
                if not blocks and (header := _header_of(block)):
                    self._send(packets.data(header, compressed))
                    header_sent = True
                self._send(packets.data(block, compressed))
                rows, blocks, size = rows + row_count(block), blocks + 1, size + len(block)
            else:
                finished = True
        except EngineError as error:
            # Of an INSERT or a mutation, on the other hand, a client is told even when it cancelled.
            if not running.cancelled or error.code != QUERY_WAS_CANCELLED:
                raise
        finally:
            if not finished:
                # To close a stream waits for the block in the making: better stop its query first.
                self._canceller.stop(running)
            stream.close()
        if running.stopped:
            raise EngineError(QUERY_WAS_CANCELLED, "DB::Exception: The endpoint stops")
        if finished and not header_sent:
            self._send(packets.data(header_block(session.columns_of(sql)), compressed))
        self._send(packets.profile_info(rows, blocks, size))

    @contextmanager
    def _watched(self) -> Iterator[Running]:
        """For the time that the engine works: the client may cancel or leave meanwhile."""
        with self._canceller.watching(self._mark, self._client) as running:
            running.cancelled = self._source.ahead == ClientPacket.CANCEL
            yield running

    def _send(self, packet: bytes) -> None:
        self._client.sendall(packet)

    def _send_last(self, packet: bytes) -> None:
        with suppress(OSError):
            self._send(packet)


def _header_of(block: bytes) -> bytes | None:
    """The block without rows; None when its types cannot be measured."""
    try:
        return pass_block(ByteSource.of(block)).header()
    except UnsupportedType:
        return None
