"""The local stack's ClickHouse: starts, watches and stops the native-protocol endpoint as a child process.

What stands under `data_dir` (`engine/`, `endpoint.log`, `port`) is enough to start again with the same data
at the same address. Never runs the engine in this process: a crash of it must not take the stack along.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError

_STARTED_WITHIN_S = 60
_STOPPED_WITHIN_S = 15
_LOG_TAIL_LINES = 15
_driver_log = logging.getLogger("clickhouse_driver.connection")


class ClickHouseNotStarted(RuntimeError):
    """The local ClickHouse did not come up; the message says why and what to do."""


class LocalClickHouse:
    """One endpoint over one data directory. `start` and `stop` may alternate."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        """`port`: none takes the one of the last start while it is free, else any free one."""
        self._data_dir = Path(data_dir).resolve()
        self._asked_port = port
        self._child: subprocess.Popen[bytes] | None = None
        self.host = "127.0.0.1"
        self.port = port or 0
        """0 until the first start."""

    @property
    def url(self) -> str:
        return f"clickhouse://{self.host}:{self.port}/default"

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def log_path(self) -> Path:
        return self._data_dir / "endpoint.log"

    def start(self, die_with_parent: bool = True) -> None:
        """Returns when `SELECT 1` is answered. Raises ClickHouseNotStarted.

        The child leads its own process group, so that Ctrl-C reaches only the parent. With
        `die_with_parent` it ends when this process does, however that ends: it holds a pipe whose other
        end closes then. (The kernel's parent-death signal comes at the death of the starting *thread*.)
        """
        if self.pid is not None:
            raise ClickHouseNotStarted(f"ClickHouse runs already, process {self.pid}")
        if find_spec("chdb") is None:
            raise ClickHouseNotStarted(
                "the embedded ClickHouse engine is not installed: pip install 'disclosure-lineage[local]', "
                "or use a server of yours with --clickhouse URL"
            )
        self._data_dir.mkdir(parents=True, exist_ok=True)
        with self._listener() as listener, self.log_path.open("ab") as log:
            log_start = log.tell()
            # The socket is passed on open: between choosing a port and listening nobody can take it, and
            # whoever connects meanwhile waits instead of being refused.
            command = [sys.executable, "-m", "infra.local.clickhouse_endpoint"]
            command += ["--path", str(self._data_dir / "engine"), "--listen-fd", str(listener.fileno())]
            command += ["--until-stdin-closes"] if die_with_parent else []
            self.port = listener.getsockname()[1]
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if die_with_parent else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        try:
            self._wait_for_answer()
        except (DriverError, OSError, EOFError) as error:
            self.kill()
            raise ClickHouseNotStarted(self._why(log_start)) from error
        (self._data_dir / "port").write_text(f"{self.port}\n")

    def _wait_for_answer(self) -> None:
        waiting = {"send_receive_timeout": _STARTED_WITHIN_S, "sync_request_timeout": _STARTED_WITHIN_S}
        _driver_log.disabled = True  # a child that fails is told about once, by what is raised
        try:
            with Client(self.host, self.port, connect_timeout=_STARTED_WITHIN_S, **waiting) as client:
                client.execute("SELECT 1")
        finally:
            _driver_log.disabled = False

    def stop(self) -> None:
        """Ends the child: queries are cancelled; by force when it takes longer than 15 s."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the child as a power cut would. What was inserted stays."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            child.send_signal(how)
        try:
            child.wait(_STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()

    def _listener(self) -> socket.socket:
        if self._asked_port is not None:
            try:
                return socket.create_server((self.host, self._asked_port), backlog=128)
            except OSError as error:
                raise ClickHouseNotStarted(f"port {self._asked_port} is taken: {error}") from error
        try:
            return socket.create_server((self.host, self._last_port()), backlog=128)
        except OSError:
            return socket.create_server((self.host, 0), backlog=128)

    def _last_port(self) -> int:
        try:
            return int((self._data_dir / "port").read_text())
        except (OSError, ValueError):
            return 0

    def _why(self, log_start: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(log_start)
            lines = log.read().decode(errors="replace").splitlines()
        tail = "\n".join(lines[-_LOG_TAIL_LINES:])
        if "Cannot lock file" in tail:
            return f"{self._data_dir} is in use by another ClickHouse engine{self._holder()}; stop that first"
        return f"ClickHouse did not start; the end of {self.log_path}:\n{tail}"

    def _holder(self) -> str:
        try:
            first = (self._data_dir / "engine" / "status").read_text().splitlines()[0]
        except (OSError, IndexError):
            return ""
        return f" (process {first.removeprefix('PID: ')})"
