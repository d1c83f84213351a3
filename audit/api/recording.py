"""Every look at people is stored before anything of it is answered; a look that cannot be stored is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from uuid import UUID, uuid4

from sinks.clickhouse.errors import ClickHouseError, TransientError
from sinks.clickhouse.looks import Look, insert_looks
from sinks.clickhouse.pool import ClickHousePool


@dataclass
class _Waiting:
    look: Look
    is_done: bool = False
    failed: ClickHouseError | None = None


class LookRecord:
    """Looks of many threads: those that come while an insert runs go together in the next one. clock: seconds."""

    def __init__(self, clickhouse: ClickHousePool, clock: Callable[[], float]) -> None:
        self._clickhouse = clickhouse
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._listed = Lock()
        self._inserting = Lock()

    def store(
        self,
        client: str,
        role: str,
        operation: str,
        people: int,
        subject: UUID | None = None,
        reason: str = "",
        subject_matter: str = "",
    ) -> None:
        """Returns when ClickHouse has the look (its fields: `sinks.clickhouse.looks.Look`). Raises ClickHouseError."""
        at = round(self._clock() * 1000)
        look = Look(uuid4(), at, client, role, operation, people, subject, reason, subject_matter)
        mine = _Waiting(look)
        with self._listed:
            self._waiting.append(mine)
        with self._inserting:
            if not mine.is_done:
                self._insert_all()
        if mine.failed is not None:
            raise TransientError(f"the look was not recorded: {mine.failed}") from mine.failed

    def _insert_all(self) -> None:
        with self._listed:
            batch, self._waiting = self._waiting, []
        # Whatever happens, what is not known to be stored is not stored.
        failed: ClickHouseError | None = TransientError("its insert did not end")
        try:
            with self._clickhouse.client() as client:
                insert_looks(client, [one.look for one in batch])
            failed = None
        except ClickHouseError as error:
            failed = error
        finally:
            for one in batch:
                one.is_done, one.failed = True, failed
