"""What went wrong with ClickHouse, sorted once: try again, or stop.

Every call of this package raises one of these two and nothing of the driver's. Unknown codes are terminal: a
mistake that is retried for ever is hidden, one that stops the job is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_driver import errors as driver


class ClickHouseError(Exception):
    """`code` is ClickHouse's error code; 0: the error is not the server's."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class TransientError(ClickHouseError):
    """The same call may succeed later. Of an insert it is not known whether it took effect."""


class TerminalError(ClickHouseError):
    """The same call will fail again."""


# Names as the engine gives them (SELECT errorCodeToName(code)).
TRANSIENT_CODES = {
    3: "UNEXPECTED_END_OF_FILE",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    95: "CANNOT_READ_FROM_SOCKET",
    96: "CANNOT_WRITE_TO_SOCKET",
    159: "TIMEOUT_EXCEEDED",
    160: "TOO_SLOW",
    198: "DNS_ERROR",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",  # its replica has lost its Keeper
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    254: "NO_ACTIVE_REPLICAS",
    279: "ALL_CONNECTION_TRIES_FAILED",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    289: "REPLICA_IS_NOT_IN_QUORUM",
    319: "UNKNOWN_STATUS_OF_INSERT",
    341: "UNFINISHED",
    364: "RECEIVED_ERROR_TOO_MANY_REQUESTS",
    369: "ALL_REPLICAS_ARE_STALE",
    394: "QUERY_WAS_CANCELLED",
    416: "REPLICA_STATUS_CHANGED",
    425: "SYSTEM_ERROR",
    439: "CANNOT_SCHEDULE_TASK",
    473: "DEADLOCK_AVOIDED",
    692: "TOO_MANY_MUTATIONS",
    745: "SERVER_OVERLOADED",
    749: "TCP_CONNECTION_LIMIT_REACHED",
    999: "KEEPER_EXCEPTION",
}


def sort_error(error: Exception) -> ClickHouseError:
    """The error of ours that stands for `error`, which the driver or the network raised."""
    if isinstance(error, ClickHouseError):
        return error
    message = str(error).partition(" Stack trace:")[0].strip() or type(error).__name__
    if isinstance(error, driver.NetworkError | driver.SocketTimeoutError | EOFError | OSError):
        return TransientError(message)
    code = int(getattr(error, "code", 0) or 0)
    return (TransientError if code in TRANSIENT_CODES else TerminalError)(message, code)


@contextmanager
def sorted_errors() -> Iterator[None]:
    """Raise the errors of the driver and the network inside the block as errors of ours."""
    try:
        yield
    except (driver.Error, EOFError, OSError) as error:
        raise sort_error(error) from error
