"""The local stack's supervisor: starts every part, restarts what dies, and ends all of it in the right order.

One process for a data folder: it holds the folder's lock, and `stack.json` (see `state`) says what runs. It never
signals a process that it did not start, and never creates topics or tables without saying so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from infra.api.authentication import make_operator_token
from infra.audit_client import TOKEN_FILE
from infra.local.child_process import FolderOccupied, occupy
from infra.local.clickhouse import ClickHouseNotStarted, LocalClickHouse
from infra.local.jars import default_cache_dir, ensure_jars
from infra.local.java import java_command
from infra.local.kafka import LocalKafka
from infra.local.parts import Api, Part, Service, Worker, wait_for_free
from infra.local.preparation import prepare
from infra.local.state import PartState, StackState
from infra.settings import Settings
from streams.topology import JOBS

Progress = Callable[[str], None]

_LOOK_SECONDS = 0.05
_LONGEST_BACKOFF = 30.0
# A part that lived this long died of something new: its back-off starts anew.
_STEADY_SECONDS = 60.0
# So often may a part die before the stack has ever been up.
_START_ATTEMPTS = 3
_UP_SECONDS = 180.0


class StackError(Exception):
    """The stack cannot be started, or runs already; the text says what to do."""


@dataclass
class Watched:
    """A part and how it fares. `due`: when it is started again (monotonic)."""

    part: Part
    state: str = "stopped"
    restarts: int = 0
    error: str | None = None
    due: float = 0.0
    since: float = 0.0

    def shown(self) -> PartState:
        return PartState(self.state, self.part.pid, self.restarts, self.error)


class Stack:
    """Runs in the calling thread until `stop` is set.

    `policies`, `recipients`: documents to publish on the way.
    """

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        policies: Sequence[Path] = (),
        recipients: Sequence[Path] = (),
    ) -> None:
        self._settings = settings
        self._data = settings.data
        self._progress = progress
        self._policies = policies
        self._recipients = recipients
        self._watched: list[Watched] = []
        self._state = StackState(os.getpid())
        self._kafka: LocalKafka | None = None
        self._clickhouse: LocalClickHouse | None = None
        self._api = Api(self._data / "api", self._data / "logs" / "api.log", self._worker_environment)

    def run(self, stop: Event, on_ready: Callable[[StackState], None] = lambda _: None) -> None:
        """Starts everything, calls `on_ready` once all parts run, watches until `stop` is set, ends everything.

        Raises `StackError` and what a part raises that does not start; nothing is left running then.
        """
        self._data.mkdir(parents=True, exist_ok=True)
        try:
            with occupy(self._data) as lock:
                os.pwrite(lock, b"%d\n" % os.getpid(), 0)
                try:
                    self._run(stop, on_ready)
                finally:
                    self._end()
        except FolderOccupied as occupied:
            raise StackError(
                f"a stack runs already on {self._data}"
                + (f" (process {occupied.pid})" if occupied.pid else "")
                + "; `lineage status` shows it, `lineage down` stops it"
            ) from None

    def _run(self, stop: Event, on_ready: Callable[[StackState], None]) -> None:
        (self._data / "logs").mkdir(exist_ok=True)
        self._write()
        made = self._settings.make_secrets()
        if make_operator_token(self._settings.api_clients(), self._data / "secrets" / TOKEN_FILE):
            made.append("the operator's token for the audit API")
        if made:
            self._progress(f"secrets     made in {self._data / 'secrets'}: {', '.join(made)}")
        workers = [self._data / "workers" / job for job in JOBS]
        wait_for_free([self._data / "kafka", *workers, self._data / "api"], self._progress)
        self._start_services()
        if stop.is_set():
            return
        kafka = replace(self._settings, kafka_bootstrap=self._kafka_bootstrap()).kafka()
        prepare(
            kafka,
            self._clickhouse_url(),
            self._settings.registry(),
            self._progress,
            self._policies,
            self._recipients,
            own_cluster=self._kafka is not None,
        )
        for job in JOBS:
            log = self._data / "logs" / f"{job}.log"
            self._start(Watched(Worker(job, self._data / "workers" / job, log, self._worker_environment)))
        self._start(Watched(self._api))
        deadline = time.monotonic() + _UP_SECONDS
        while not stop.is_set():
            self._look()
            if not self._state.ready:
                self._await_first(deadline, on_ready)
            stop.wait(_LOOK_SECONDS)

    # Starting

    def _start_services(self) -> None:
        services: list[Watched] = []
        if self._settings.kafka_bootstrap is None:
            java = java_command(self._settings.java_home)
            jars = ensure_jars(default_cache_dir(), self._progress, maven_repository=self._settings.maven_repository)
            self._kafka = LocalKafka(self._data / "kafka", jars=jars, java=java)
            services.append(Watched(Service("kafka", self._kafka, self._data / "kafka" / "kafka.log")))
        else:
            self._progress(f"kafka       {self._settings.kafka_bootstrap}, yours")
        if self._settings.clickhouse_url is None:
            self._clickhouse = LocalClickHouse(self._data / "clickhouse")
            services.append(Watched(Service("clickhouse", self._clickhouse, self._clickhouse.log_path)))
        else:
            self._progress("clickhouse  yours")
        if not services:
            return
        with ThreadPoolExecutor(len(services)) as pool:
            starts = [pool.submit(self._start_service, watched) for watched in services]
        self._watched += services
        self._write()
        for start in starts:
            start.result()

    def _start_service(self, watched: Watched) -> None:
        started = time.monotonic()
        while True:
            try:
                watched.part.start()
                break
            except ClickHouseNotStarted as error:
                # The engine of a stack that was killed needs a moment to end.
                if "in use by another" not in str(error) or time.monotonic() - started > 30:
                    raise
                time.sleep(0.2)
        watched.state, watched.since = "running", time.monotonic()
        where = self._kafka.bootstrap if watched.part.name == "kafka" and self._kafka else self._clickhouse_address()
        self._say(watched, f"{where}, process {watched.part.pid} ({watched.since - started:.1f} s)")

    def _start(self, watched: Watched) -> None:
        """Begins to start a worker."""
        if watched not in self._watched:
            self._watched.append(watched)
        watched.state, watched.since = "starting", time.monotonic()
        watched.part.start()
        self._write()

    def _await_first(self, deadline: float, on_ready: Callable[[StackState], None]) -> None:
        """Is everything up for the first time? Raises `StackError` when it will hardly ever be."""
        for watched in self._watched:
            if watched.restarts >= _START_ATTEMPTS or (watched.state != "running" and time.monotonic() > deadline):
                log = self._data / "logs" / f"{watched.part.name}.log"
                raise StackError(f"{watched.part.name} does not come up: {watched.error or watched.state}; see {log}")
        if all(watched.state == "running" for watched in self._watched):
            self._write(ready=True)
            on_ready(self._state)

    # Watching

    def _look(self) -> None:
        for watched in self._watched:
            part = watched.part
            if watched.state == "restarting":
                if time.monotonic() >= watched.due:
                    self._start_again(watched)
            elif part.pid is None:
                self._died(watched, part.last_words())
            elif watched.state == "starting" and part.is_ready():
                watched.state, took = "running", time.monotonic() - watched.since
                watched.since = time.monotonic()
                where = f"{self._api.address}, " if part is self._api else ""
                self._say(watched, f"{where}process {part.pid} ({took:.1f} s)")
                self._write()

    def _died(self, watched: Watched, error: str | None) -> None:
        if watched.state == "running" and time.monotonic() - watched.since > _STEADY_SECONDS:
            attempts = 0
        else:
            attempts = watched.restarts
        wait = min(_LONGEST_BACKOFF, 2.0**attempts)
        watched.restarts += 1
        watched.state, watched.error, watched.due = "restarting", error, time.monotonic() + wait
        self._say(watched, f"died: {error or 'without a word'}; restart {watched.restarts} in {wait:.0f} s")
        self._write()

    def _start_again(self, watched: Watched) -> None:
        addresses = self._addresses()
        try:
            if isinstance(watched.part, Service):
                self._start_service(watched)
            else:
                self._start(watched)
        except Exception as error:
            self._died(watched, str(error).splitlines()[0])
            return
        self._write()
        if addresses != self._addresses():
            # It came back on another port: the workers must be told, and are told at their start only.
            for other in self._watched:
                if isinstance(other.part, Worker):
                    other.part.stop()

    # Ending

    def _end(self) -> None:
        workers = [watched for watched in self._watched if isinstance(watched.part, Worker)]
        for watched in workers:
            if isinstance(watched.part, Worker):
                watched.part.ask_to_stop()
        # Workers first, so that they can commit; then what they insert into; Kafka last.
        services = [watched for watched in self._watched if watched not in workers]
        for watched in [*workers, *reversed(services)]:
            ran = watched.part.pid is not None
            watched.part.stop()
            watched.state = "stopped"
            if ran:
                self._say(watched, "stopped")
        (self._data / "stack.json").unlink(missing_ok=True)

    # Telling

    def _say(self, watched: Watched, text: str) -> None:
        self._progress(f"{watched.part.name:<11} {text}")

    def _write(self, ready: bool | None = None) -> None:
        kafka_there = self._kafka.pid is not None if self._kafka else self._settings.kafka_bootstrap is not None
        database_there = (
            self._clickhouse.pid is not None if self._clickhouse else self._settings.clickhouse_url is not None
        )
        self._state = StackState(
            pid=os.getpid(),
            ready=self._state.ready if ready is None else ready,
            kafka=self._kafka_bootstrap() if kafka_there else None,
            clickhouse=self._clickhouse_address() if database_there else None,
            clickhouse_url=self._clickhouse_url() if database_there else None,
            api=self._api.address if self._api.pid is not None else None,
            parts={watched.part.name: watched.shown() for watched in self._watched},
        )
        self._state.write(self._data)

    def _addresses(self) -> tuple[str, str, str]:
        return self._kafka_bootstrap(), self._clickhouse_url(), self._api.address

    def _kafka_bootstrap(self) -> str:
        return self._kafka.bootstrap if self._kafka is not None else self._settings.kafka().bootstrap

    def _clickhouse_url(self) -> str:
        return self._clickhouse.url if self._clickhouse is not None else self._settings.clickhouse()

    def _clickhouse_address(self) -> str:
        if self._clickhouse is not None:
            return f"{self._clickhouse.host}:{self._clickhouse.port}"
        # Without user and password.
        return self._settings.clickhouse().rpartition("@")[2].removeprefix("clickhouse://").partition("/")[0]

    def _worker_environment(self) -> dict[str, str]:
        # Not on the command line, which everybody on the machine may read: the URL may hold a password.
        return {
            "LINEAGE_DATA": str(self._data),
            "LINEAGE_KAFKA": self._kafka_bootstrap(),
            "LINEAGE_CLICKHOUSE": self._clickhouse_url(),
            "LINEAGE_API": self._api.address,
        }
