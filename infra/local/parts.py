"""The parts of a local stack, each started, watched and stopped the same way: Kafka, ClickHouse, and our own workers.

A part never outlives the process that started it (where the kernel can see to that, see `child_process`), and is only
ever ended by the id it was started with.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from infra.local.child_process import FolderOccupied, occupy, owner_pid, spawn
from infra.local.clickhouse import LocalClickHouse
from infra.local.kafka import LocalKafka

_HOST = "127.0.0.1"
_STOP_SECONDS = 30.0
_TAIL_BYTES = 16 << 10
# Time and level, as `lineage worker` logs them.
_LOG_HEAD = re.compile(r"^\d{4}-\S+ \S+ [A-Z]+ ")


class PartError(Exception):
    """A part cannot be started; the text says why."""


class Part(Protocol):
    """Something that runs as a child process."""

    name: str

    @property
    def pid(self) -> int | None:
        """The id of the living process, else None."""
        ...

    def start(self) -> None:
        """Raises an error whose text says why the part does not start."""
        ...

    def is_ready(self) -> bool:
        """Whether the living part has said that it does its work."""
        ...

    def last_words(self) -> str | None:
        """The last line that it logged."""
        ...

    def stop(self) -> None:
        """Ends it, cleanly if it can. Does nothing when it does not run."""
        ...


class Service:
    """Kafka or ClickHouse: `start` returns when it answers. `log`: file with what it says."""

    def __init__(self, name: str, service: LocalKafka | LocalClickHouse, log: Path) -> None:
        self.name = name
        self._service = service
        self._log = log

    @property
    def pid(self) -> int | None:
        return self._service.pid

    def start(self) -> None:
        self._service.start()

    def is_ready(self) -> bool:
        return self.pid is not None

    def last_words(self) -> str | None:
        return last_line(self._log)

    def stop(self) -> None:
        self._service.stop()


class Worker:
    """`lineage worker JOB` as a child process with a folder of its own, so that no two have one instance name.

    `environment` is asked at each start: a broker that came back may have another port.
    """

    def __init__(self, job: str, folder: Path, log: Path, environment: Callable[[], Mapping[str, str]]) -> None:
        self.name = job
        self._folder = folder
        self._log = log
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        if self._log.exists():
            # Why the one before died is still worth reading.
            self._log.replace(self._log.with_name(self._log.name + ".1"))
        command = [sys.executable, "-m", "infra.cli.main", *self._command(), "--ready-file", str(self._ready_file)]
        try:
            with occupy(self._folder) as lock:
                self._process = spawn(
                    command,
                    self._folder,
                    lock,
                    environment=self._environment(),
                    output=self._log,
                    die_with_parent=True,
                )
        except FolderOccupied as occupied:
            raise PartError(f"another {self.name} runs: {occupied}") from None

    def _command(self) -> list[str]:
        return ["worker", self.name]

    def is_ready(self) -> bool:
        return self._ready_file.exists()

    def last_words(self) -> str | None:
        process = self._process
        code = None if process is None else process.poll()
        said = last_line(self._log)
        if code is not None and code < 0:
            # A killed process leaves nothing behind that would say so.
            return f"ended by signal {-code}"
        return said and _LOG_HEAD.sub("", said)

    def stop(self) -> None:
        self.ask_to_stop()
        process = self._process
        if process is None:
            return
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def ask_to_stop(self) -> None:
        """Begins to end it, without waiting."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    @property
    def _ready_file(self) -> Path:
        return self._folder / "ready"


class Api(Worker):
    """`lineage api` as a child process, on the port that it had last on this folder where that is free."""

    def __init__(self, folder: Path, log: Path, environment: Callable[[], Mapping[str, str]]) -> None:
        super().__init__("api", folder, log, environment)
        self._port: int | None = None

    @property
    def address(self) -> str:
        """host:port, chosen before the first start, so that others can be told of it."""
        if self._port is None:
            self._port = self._choose_port()
        return f"{_HOST}:{self._port}"

    def start(self) -> None:
        if self._port is not None and not _is_free(self._port):
            # Somebody else has taken it meanwhile.
            self._port = None
        _ = self.address
        super().start()

    def _choose_port(self) -> int:
        remembered = self._folder / "port"
        try:
            port = int(remembered.read_text(encoding="ascii"))
        except (OSError, ValueError):
            port = 0
        if not port or not _is_free(port):
            with socket.socket() as free:
                free.bind((_HOST, 0))
                port = int(free.getsockname()[1])
        self._folder.mkdir(parents=True, exist_ok=True)
        remembered.write_text(f"{port}\n", encoding="ascii")
        return port

    def _command(self) -> list[str]:
        host, _, port = self.address.rpartition(":")
        return ["api", "--host", host, "--port", port]


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
        except OSError:
            return False
    return True


def last_line(log: Path) -> str | None:
    """The last line of a log that is not empty and no part of a traceback."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    said = [line.strip() for line in lines if line.strip() and not line.startswith(("\t", "  "))]
    return said[-1][:500] if said else None


def wait_for_free(folders: Sequence[Path], progress: Callable[[str], None], timeout: float = 45.0) -> None:
    """Waits until nobody owns any of the folders: the parts of a stack that was killed need a moment to end.

    Raises `PartError`.
    """
    deadline = time.monotonic() + timeout
    for folder in folders:
        told = False
        while folder.is_dir() and (pid := owner_pid(folder)) is not None:
            if not told:
                progress(f"waiting for process {pid} of an earlier stack to end ({folder.name})")
                told = True
            if time.monotonic() > deadline:
                raise PartError(f"{folder} still belongs to process {pid} of an earlier stack: stop that process")
            with contextlib.suppress(InterruptedError):
                time.sleep(0.05)
