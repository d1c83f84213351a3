"""Connections to ClickHouse: the driver's native protocol, by URL. Opens nothing before the first query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from clickhouse_driver import Client

from sinks.clickhouse.errors import sorted_errors


def connect(url: str) -> Client:
    """A client for `clickhouse://[user[:password]@]host[:port][/database][?option=value…]`.

    `clickhouses://` or `?secure=1` speaks TLS; `?compression=lz4` compresses; any other option is the driver's
    (https://clickhouse-driver.readthedocs.io/en/latest/api.html) or a ClickHouse setting. One client serves one
    thread at a time. Raises ValueError when the URL is none of these.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("clickhouse", "clickhouses") or not parts.hostname:
        raise ValueError("a ClickHouse URL looks like clickhouse://user:password@host:9000/database")
    return Client.from_url(url)


def create_database(url: str, cluster: str | None = None) -> None:
    """Create the database that the URL names where it is missing. Raises ClickHouseError."""
    name = urlsplit(url).path.strip("/")
    if not name:
        return
    client = connect(urlsplit(url)._replace(path="").geturl())
    on_cluster = f" ON CLUSTER {quoted(cluster)}" if cluster else ""
    try:
        execute(client, f"CREATE DATABASE IF NOT EXISTS {quoted(name)}{on_cluster}")
    finally:
        client.disconnect()


def execute(
    client: Client,
    sql: str,
    parameters: dict[str, Any] | None = None,
    external: Sequence[dict[str, Any]] = (),
    **settings: Any,
) -> list[Any]:
    """Rows of the answer, as tuples. Raises ClickHouseError and nothing of the driver's.

    external: tables that go along for this one query, of `external_table`; for values by the thousand, which as
    parameters would all stand in the query's text, and in the server's log of it.
    """
    with sorted_errors():
        rows: list[Any] = client.execute(sql, parameters, external_tables=list(external) or None, settings=settings)
    return rows


def external_table(name: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """A table for one query. columns: name → ClickHouse type, in the order of each row's values."""
    return {
        "name": name,
        "structure": list(columns.items()),
        "data": [dict(zip(columns, row, strict=True)) for row in rows],
    }


def quoted(identifier: str) -> str:
    """An identifier for use in SQL."""
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"
