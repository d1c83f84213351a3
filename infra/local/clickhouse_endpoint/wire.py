"""Bytes between the endpoint and one client: pulled in chunks, skipped or copied without looking inside.

Knows varints, strings and compressed frames; knows neither packets nor blocks. It never reserves memory
for a size that a peer merely claims: bytes are taken as they arrive.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

_LZ4_METHOD = 0x82
_FRAME_HEADER = struct.Struct("<BII")  # method, size with this header, size when unpacked
_FRAME_LIMIT = 1 << 30
_FRAME_ROOM = 1 << 20  # bytes of a block in one outgoing frame, as ClickHouse itself cuts them


class ProtocolError(Exception):
    """A peer sent bytes that the protocol does not allow: the connection cannot go on."""


class Disconnected(Exception):
    """The peer closed the connection."""


class ByteSource:
    """A stream of bytes that arrives in chunks, read forwards only.

    `pull` returns the next chunk, or nothing at the end. Between `record_to` and `stop_recording` every
    byte that is consumed is also written to a file descriptor, in the order of the stream.
    """

    def __init__(self, pull: Callable[[], bytes]) -> None:
        self._pull = pull
        self._chunk = b""
        self._at = 0
        self._sink: int | None = None
        self._recorded_to = 0

    @classmethod
    def of(cls, data: bytes) -> ByteSource:
        chunks = iter((data, b""))
        return cls(lambda: next(chunks, b""))

    @property
    def ahead(self) -> int | None:
        """The next byte, if it has arrived."""
        return self._chunk[self._at] if self._at < len(self._chunk) else None

    @property
    def position(self) -> int:
        """Bytes consumed of the present chunk."""
        return self._at

    def record_to(self, sink: int) -> None:
        self._sink, self._recorded_to = sink, self._at

    def stop_recording(self) -> None:
        self._flush()
        self._sink = None

    def _flush(self) -> None:
        if self._sink is not None and self._at > self._recorded_to:
            view = memoryview(self._chunk)[self._recorded_to : self._at]
            while view:
                view = view[os.write(self._sink, view) :]
        self._recorded_to = self._at

    def _next_chunk(self) -> None:
        self._flush()
        chunk = self._pull()
        if not chunk:
            raise Disconnected
        self._chunk, self._at, self._recorded_to = chunk, 0, 0

    def byte(self) -> int:
        if self._at == len(self._chunk):
            self._next_chunk()
        value = self._chunk[self._at]
        self._at += 1
        return value

    def varint(self) -> int:
        """An unsigned LEB128 of at most 64 bits; ProtocolError when it is longer."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ProtocolError("a number of more than 64 bits")

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end <= len(self._chunk):
            taken = self._chunk[self._at : end]
            self._at = end
            return taken
        parts = []
        while size:
            if self._at == len(self._chunk):
                self._next_chunk()
            part = self._chunk[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def uint64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def text(self, limit: int = 1 << 20) -> str:
        """A length-prefixed UTF-8 string of at most `limit` bytes."""
        size = self.varint()
        if size > limit:
            raise ProtocolError(f"a string of {size} bytes where {limit} are the most")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a string that is not UTF-8") from error

    def skip(self, size: int) -> None:
        while (left := self._at + size - len(self._chunk)) > 0:
            size = left
            self._at = len(self._chunk)
            self._next_chunk()
        self._at += size

    def skip_strings(self, count: int) -> None:
        """Passes `count` length-prefixed strings. The one loop over values that a block needs."""
        chunk, at = self._chunk, self._at
        while count:
            try:
                while count:
                    size = chunk[at]
                    if size > 0x7F:
                        break
                    at += size + 1
                    count -= 1
                else:
                    break
                self._at = at
                size = self.varint()
                self.skip(size)
                count -= 1
            except IndexError:  # the next length lies beyond what has arrived
                self._at = len(chunk)
                self.skip(at - len(chunk))
                if self._at == len(self._chunk):
                    self._next_chunk()
            chunk, at = self._chunk, self._at
        self._at = min(at, len(chunk))
        self.skip(at - self._at)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value: str) -> bytes:
    raw = value.encode()
    return varint(len(raw)) + raw


def compressed_frames(data: bytes) -> bytes:
    """`data` as ClickHouse's compressed frames (LZ4): checksum, method, sizes, packed bytes.

    Raises ImportError without the packages of the extra `local`.
    """
    import lz4.block

    frames = []
    for start in range(0, len(data), _FRAME_ROOM):
        part = data[start : start + _FRAME_ROOM]
        packed = lz4.block.compress(part, store_size=False)
        frame = _FRAME_HEADER.pack(_LZ4_METHOD, _FRAME_HEADER.size + len(packed), len(part)) + packed
        frames += [_checksum(frame), frame]
    return b"".join(frames)


def unpacked_frame(source: ByteSource) -> bytes:
    """The next compressed frame of `source`, checked and unpacked."""
    import lz4.block

    checksum = source.take(16)
    header = source.take(_FRAME_HEADER.size)
    method, size, unpacked_size = _FRAME_HEADER.unpack(header)
    if method != _LZ4_METHOD:
        raise ProtocolError(f"compression method {method:#x}; only LZ4 is spoken here")
    if not _FRAME_HEADER.size <= size <= _FRAME_LIMIT or unpacked_size > _FRAME_LIMIT:
        raise ProtocolError(f"a compressed frame of {size} bytes")
    packed = source.take(size - _FRAME_HEADER.size)
    if _checksum(header + packed) != checksum:
        raise ProtocolError("a compressed frame with a wrong checksum")
    try:
        return bytes(lz4.block.decompress(packed, uncompressed_size=unpacked_size))
    except lz4.block.LZ4BlockError as error:
        raise ProtocolError("a compressed frame that cannot be unpacked") from error


def _checksum(frame: bytes) -> bytes:
    """CityHash 1.0.2, 128 bits: the high half goes first, each half little-endian."""
    from clickhouse_cityhash.cityhash import CityHash128

    value: int = CityHash128(frame)
    return struct.pack("<QQ", value >> 64, value & 0xFFFFFFFFFFFFFFFF)
