"""The errors of the audit API: each has a code that stays, and a text that says what to do. Never quotes what was sent,
which may name a person.
"""

from __future__ import annotations

from collections.abc import Mapping

# Code → HTTP status. Clients go by the codes: none changes its meaning.
CODES: Mapping[str, int] = {
    "invalid_request": 400,
    "bad_cursor": 400,
    "reason_required": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "rate_limited": 429,
    "internal": 500,
    "unavailable": 503,
}


class ApiError(Exception):
    """An answer that is an error. `code`: of `CODES`. `retry_after`: seconds."""

    def __init__(self, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        return CODES[self.code]


class Unavailable(Exception):
    """Something that an answer needs cannot be reached now; the text says what, and nothing about a person."""
