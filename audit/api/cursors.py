"""Cursors: where the next page begins. Opaque to clients.

A cursor holds the key of the last entry that was seen, and a digest of the question. It grants nothing: its values are
bound like any other, and whoever makes one up sees what they may see anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

import orjson

from audit.api.errors import ApiError

_MOST = 512
_INT64 = 1 << 63

Part = Callable[[Any], Any]
T = TypeVar("T")


def whole(value: Any) -> int:
    """A part of a key: an integer of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not -_INT64 <= value < _INT64:
        raise ValueError("no integer")
    return value


def uuid(value: Any) -> UUID:
    """A part of a key: a UUID."""
    if not isinstance(value, str):
        raise ValueError("no UUID")
    return UUID(value)


def text(value: Any) -> str:
    """A part of a key: a text."""
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


class Paging:
    """The cursors of one question. `question`: the operation and every value that decides what is found."""

    def __init__(self, question: Sequence[Any]) -> None:
        self._digest = hashlib.sha256(orjson.dumps(list(question), default=str)).hexdigest()[:8]

    def cursor(self, *key: Any) -> str:
        """The cursor that continues behind this key."""
        return base64.urlsafe_b64encode(orjson.dumps([self._digest, *key], default=str)).decode().rstrip("=")

    def after(self, cursor: str | None, *parts: Part) -> tuple[Any, ...] | None:
        """The key of a cursor, each part as its function reads it; None of None. Raises `ApiError`."""
        if cursor is None:
            return None
        try:
            if len(cursor) > _MOST:
                raise ValueError("too long")
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            digest, *key = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            if digest != self._digest:
                raise ApiError("bad_cursor", "this cursor is of another question: send the same filters with it")
            return tuple(read(value) for read, value in zip(parts, key, strict=True))
        except (ValueError, TypeError, binascii.Error, UnicodeError):
            raise ApiError("bad_cursor", "this is no cursor of this API: take `next` of the answer before") from None
