"""Inserts of coded rows: one Native block over the driver's own connection.

The driver builds blocks from Python values, one by one; here the block is made from arrays (native.py) and put on
the wire between the driver's own steps of an insert. Never splits a block: the loader's exactly-once rests on one
insert being one block with one token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from clickhouse_driver import Client, defines
from clickhouse_driver.block import BlockInfo, RowOrientedBlock
from clickhouse_driver.protocol import ClientPacketTypes
from clickhouse_driver.varint import write_varint
from clickhouse_driver.writer import write_binary_str

from processors.coded import Array, CodedRows
from sinks.clickhouse.client import quoted
from sinks.clickhouse.errors import sorted_errors
from sinks.clickhouse.native import ShapeEncoder, native_block

DEFAULT_TIMEOUT_S = 30
_GRACE_S = 5


def insert_lineage(
    client: Client,
    rows: CodedRows,
    token: str,
    timeout_s: int = DEFAULT_TIMEOUT_S,
    encoder: ShapeEncoder | None = None,
) -> None:
    """Insert rows of the table `lineage` as one block; columns that `rows` lacks get their defaults.

    token: deduplication token; a second insert with it, within the table's window, does nothing.
    encoder: kept for the blocks of a batch, it encodes the shapes that they share once.
    The rows must be of one month (rows.split_by_month), else the block becomes several parts, which do not stand
    or fall together.
    Raises TransientError (the insert may or may not have taken effect: count it, see recovery.py), TerminalError,
    ColumnError.
    """
    insert(client, "lineage", rows, token, timeout_s, encoder)


def insert_subjects(
    client: Client,
    alias: npt.NDArray[np.uint8],
    subject: npt.NDArray[np.uint8],
    version: npt.NDArray[np.uint64],
    token: str,
    timeout_s: int = DEFAULT_TIMEOUT_S,
) -> None:
    """Insert links from alias to subject, both uint8[n, 16].

    subject: all zero for an alias whose subject was erased.
    version: the record's offset in `subject-state`; for each alias the highest counts.
    Raises as `insert_lineage` does.
    """
    columns: dict[str, Array] = {"alias": alias, "subject": subject, "version": version}
    rows = CodedRows(columns, np.zeros(len(alias), dtype=np.int32), pl.DataFrame())
    insert(client, "subjects", rows, token, timeout_s)


def insert(
    client: Client, table: str, rows: CodedRows, token: str, timeout_s: int, encoder: ShapeEncoder | None = None
) -> None:
    """Insert all rows into `table` as one block. No rows: does nothing. Raises as `insert_lineage` does."""
    if not len(rows):
        return
    settings = {
        "async_insert": 0,
        "insert_deduplicate": 1,
        "insert_deduplication_token": token,
        "max_execution_time": timeout_s,
    }
    sql = f"INSERT INTO {quoted(table)} ({', '.join(map(quoted, sorted(rows.columns)))}) VALUES"
    # The driver closes the connection on any error inside: half a block is never followed by another query. And past
    # the server's own limit nothing more is to come: an insert does not hang on a dead connection.
    with (
        sorted_errors(),
        client.disconnect_on_error(sql, settings),
        client.connection.timeout_setter(timeout_s + _GRACE_S),
    ):
        client.connection.send_query(sql)
        client.connection.send_external_tables(None)
        sample = client.receive_sample_block()
        send_block(client, rows, sample.columns_with_types, encoder=encoder)
        client.receive_profile_events()
        client.connection.send_data(RowOrientedBlock())
        client.receive_profile_events()
        client.receive_end_of_insert_query()


def send_block(
    client: Client,
    rows: CodedRows,
    columns: Sequence[tuple[str, str]],
    table: str = "",
    encoder: ShapeEncoder | None = None,
) -> None:
    """A data packet, as clickhouse_driver.connection.Connection.send_data writes one. `table`: one of the query's own,
    else what the query inserts."""
    connection = client.connection
    revision = connection.server_info.used_revision
    parts = native_block(
        rows,
        columns,
        serialization_byte=revision >= defines.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION,
        encoder=encoder,
    )
    write_varint(ClientPacketTypes.DATA, connection.fout)
    write_binary_str(table, connection.fout)
    out = connection.block_out  # compresses, when the connection does
    BlockInfo().write(out.fout)
    for part in parts:
        out.fout.write(bytes(part))  # it wants bytes, and does not say so
    out.finalize()
