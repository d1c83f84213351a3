"""One connection to the embedded engine: a client's session, with settings that never outlive their query.

The only module that imports chdb. Knows no protocol. Uses the binding below chdb's Python layer, since only
that one classifies statements; pinned with chdb's version.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from infra.local.clickhouse_endpoint.blocks import Column
from infra.local.clickhouse_endpoint.packets import Setting, Work
from infra.local.clickhouse_endpoint.statements import InsertOfBlocks, is_select, settings_set

log = logging.getLogger(__name__)

SYNTAX_ERROR = 62
UNKNOWN_SETTING = 115
QUERY_WAS_CANCELLED = 394
_UNKNOWN_EXCEPTION = 1002
_ERROR = re.compile(r"(?:.*?)Code: (\d+)\. (.*)", re.DOTALL)


class EngineError(Exception):
    """The engine refused or stopped a statement."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        """ClickHouse's error code."""

    @classmethod
    def of(cls, error: Exception) -> EngineError:
        match = _ERROR.match(str(error))
        return cls(int(match[1]), match[2]) if match else cls(_UNKNOWN_EXCEPTION, str(error))


class Spool:
    """Blocks of one INSERT, in Native format, in memory, where the engine can read them as a file."""

    def __init__(self) -> None:
        self.rows = 0
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("insert")
            self.path = f"/proc/self/fd/{self.descriptor}"
        else:  # not Linux: a file, gone as soon as the INSERT is
            self.descriptor, self.path = tempfile.mkstemp(suffix=".native")

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.descriptor)
        if not self.path.startswith("/proc/"):
            os.unlink(self.path)


def connect(path: Path) -> Any:
    """A connection to the engine over `path`. Raises ImportError without chdb, EngineError if refused."""
    from chdb import _chdb

    binding: Any = _chdb
    try:
        return binding.connect(str(path))
    except RuntimeError as error:
        raise EngineError.of(error) from error


class Session:
    """A client's own connection: current database, settings, temporary tables.

    `mark` opens every statement as a comment, so that another connection can find and stop it.
    """

    def __init__(self, path: Path, mark: str) -> None:
        self._path = path
        self._mark = f"/* {mark} */ "
        self._connection = connect(path)
        self._set_by_client: dict[str, str] = {}
        self._in_force: dict[str, str] = {}
        self._database = "default"
        self.work = Work()
        self._be_a_server()

    def close(self) -> None:
        self._connection.close()

    def facts(self) -> tuple[tuple[int, int, int], str, str]:
        """The engine's version, its time zone, the machine's name."""
        told = self._statement("SELECT version(), timezone(), hostName()", "TSVRaw").decode()
        version, timezone, host = told.rstrip("\n").split("\t")
        major, minor, patch = (int(part) for part in version.split(".")[:3])
        return (major, minor, patch), timezone, host

    def begin(self, settings: Mapping[str, Setting]) -> None:
        """Makes the settings in force those of the session and this query, and no others."""
        self.work = Work()
        wanted = self._set_by_client | {name: _quoted(setting.value) for name, setting in settings.items()}
        gone = self._in_force.keys() - wanted.keys()
        changes = {name: value for name, value in wanted.items() if self._in_force.get(name) != value}
        if not gone and not changes:
            return
        try:
            self._assign({**dict.fromkeys(gone, "DEFAULT"), **changes})
        except EngineError:
            self._begin_one_by_one(gone, changes, settings)

    def _begin_one_by_one(self, gone: set[str], changes: dict[str, str], settings: Mapping[str, Setting]) -> None:
        try:
            for name in gone:
                self._assign({name: "DEFAULT"})
        except EngineError:
            # Some settings forbid to change settings (`readonly`): only a new connection is free of them.
            self._connection.close()
            self._connection = connect(self._path)
            self._be_a_server()
            self._statement(f"USE {_identifier(self._database)}")
            changes = self._set_by_client | changes
        for name, value in changes.items():
            try:
                self._assign({name: value})
            except EngineError as error:
                if error.code != UNKNOWN_SETTING or settings[name].important:
                    raise
                log.warning("unknown setting %s is ignored", name)

    def _assign(self, values: Mapping[str, str]) -> None:
        self._statement("SET " + ", ".join(f"{_identifier(name)} = {value}" for name, value in values.items()))
        for name, value in values.items():
            if value == "DEFAULT":
                self._in_force.pop(name, None)
            else:
                self._in_force[name] = value

    def _be_a_server(self) -> None:
        """chdb reads `foo` as `SELECT foo`; a server does not."""
        self._in_force = {}
        self._statement("SET implicit_select = 0")

    def streams(self, sql: str) -> bool:
        """Whether the result of a query is to be streamed.

        Raises EngineError for several statements in one query: chdb would run them all.
        """
        classified = self._connection.classify_query(sql)
        if classified["statement_count"] > 1:
            raise EngineError(SYNTAX_ERROR, "DB::Exception: Multi-statements are not allowed")
        return is_select(sql) and classified["query_class"].name != "MUTATING"  # WITH … INSERT … SELECT

    def use(self, database: str) -> None:
        self._statement(f"USE {_identifier(database)}")
        self._database = database

    def run(self, sql: str) -> bytes:
        """Runs a statement of any kind to its end: its result as Native blocks, often none."""
        result = self._statement(sql)
        changed = settings_set(sql)
        if changed is not None:
            self._in_force |= changed
            self._set_by_client |= changed
            for name in [name for name, value in changed.items() if value.upper() == "DEFAULT"]:
                self._in_force.pop(name)
                self._set_by_client.pop(name)
        elif re.match(r"\W*USE\b", sql, re.IGNORECASE):
            self._database = bytes(self._statement("SELECT currentDatabase()", "TSVRaw")).decode().rstrip("\n")
        return result

    def stream(self, sql: str) -> Generator[bytes, None, None]:
        """Runs a SELECT: one Native block with rows after the other, as the engine makes them.

        Closing the iterator early stops the query. Nothing else may run on the session meanwhile.
        """
        with _engine_errors():
            stream = self._connection.send_query(self._mark + sql, "Native")
        finished = False
        try:
            while True:
                try:
                    with _engine_errors():
                        chunk = self._connection.streaming_fetch_result(stream)
                except EngineError:
                    finished = True
                    raise
                if not chunk.rows_read():
                    finished = True
                    return
                self.work.read_rows = chunk.storage_rows_read()
                self.work.read_bytes = chunk.storage_bytes_read()
                yield chunk.bytes()
        finally:
            if not finished:
                with suppress(RuntimeError):
                    self._connection.streaming_cancel_query(stream)

    def columns_of(self, select: str) -> tuple[Column, ...]:
        """Names and types of the columns of a SELECT, without running it."""
        described = self._statement(f"DESCRIBE ({select}\n)", "JSONCompactEachRow")
        return tuple((row[0], row[1]) for row in map(json.loads, described.splitlines()))

    def insert(self, insert: InsertOfBlocks, spool: Spool) -> None:
        # Not chdb's own streaming insert: it reports success for rows that a constraint refused.
        self._statement(insert.from_file(spool.path))

    @contextmanager
    def temporary_table(self, name: str, columns: tuple[Column, ...], spool: Spool) -> Iterator[None]:
        """A table that the client sent along with its query."""
        structure = ", ".join(f"{_identifier(column)} {type_name}" for column, type_name in columns)
        self._statement(f"CREATE TEMPORARY TABLE {_identifier(name)} ({structure}) ENGINE = Memory")
        try:
            if spool.rows:
                self.insert(InsertOfBlocks(_identifier(name), "", ""), spool)
            yield
        finally:
            self._statement(f"DROP TEMPORARY TABLE IF EXISTS {_identifier(name)}")

    def _statement(self, sql: str, output: str = "Native") -> bytes:
        with _engine_errors():
            result = self._connection.query(self._mark + sql, output)
        self.work.written_rows += result.rows_written()
        self.work.written_bytes += result.bytes_written()
        block: bytes = result.bytes()
        return block


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise EngineError.of(error) from error


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
