"""Erasure requests page by page, the newest first. Names no person."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from clickhouse_driver import Client

from sinks.clickhouse.client import execute

_PAGE = """
SELECT document FROM erasure_requests FINAL
WHERE (NOT %(open_only)s OR isNull(ended_at)) AND (%(state)s = '' OR state = %(state)s) {behind}
ORDER BY received_at DESC, request_id DESC
LIMIT %(limit)s
"""
_OPEN_AT = """
SELECT document FROM erasure_requests FINAL
WHERE isNull(ended_at) AND isNull(joined) AND arrayExists(
    (id, state) -> id = %(recipient)s AND state NOT IN ('completed', 'failed', 'unsupported', 'exempt'),
    `targets.id`, `targets.state`)
ORDER BY due_at ASC NULLS LAST, received_at, request_id
LIMIT %(limit)s
"""
_BEHIND = "AND (received_at, request_id) < (fromUnixTimestamp64Milli(%(at)s, 'UTC'), %(id)s)"


def requests_page(
    client: Client,
    open_only: bool = False,
    state: str | None = None,
    after: tuple[int, UUID] | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """ErasureStates as `sinks.clickhouse.erasures.erasure_requests` gives them, the last received first.

    after: (received_at in ms, request id) of the last one seen. Raises ClickHouseError.
    """
    values: dict[str, Any] = {"open_only": int(open_only), "state": state or "", "limit": limit}
    if after is not None:
        values |= {"at": after[0], "id": after[1]}
    rows = execute(client, _PAGE.format(behind=_BEHIND if after is not None else ""), values)
    return [orjson.loads(document) for (document,) in rows]


def open_requests_at(client: Client, recipient: str, limit: int) -> list[dict[str, Any]]:
    """Open requests that wait for this recipient, by their terms; as `requests_page` gives them. Raises
    ClickHouseError."""
    rows = execute(client, _OPEN_AT, {"recipient": recipient, "limit": limit})
    return [orjson.loads(document) for (document,) in rows]
