"""The local stack's ClickHouse: the native-protocol endpoint over the embedded engine, as a child process.

What stands under its folder (`engine/`, `port`) is enough to start again with the same data at the same address.
Never loads the engine into this process: a crash of it must not take the stack along.
"""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError

from infra.local.child_process import FolderOccupied, occupy, spawn

_LOOK_S = 0.02
_LOG_TAIL_LINES = 15
_ATTEMPTS = 3
_driver_log = logging.getLogger("clickhouse_driver.connection")


class ClickHouseNotStarted(RuntimeError):
    """The local ClickHouse did not come up; the message says why and what to do."""


class LocalClickHouse:
    """One endpoint over one folder. `start` and `stop` may alternate; data and, if free, the port stay."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        """`port`: none takes the one of the last start while it is free, else any free one."""
        self._data_dir = Path(data_dir).resolve()
        self._asked_port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.host = "127.0.0.1"
        self.port = port or 0
        """0 until the first start."""

    @property
    def url(self) -> str:
        return f"clickhouse://{self.host}:{self.port}/default"

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log_path(self) -> Path:
        return self._data_dir / "endpoint.log"

    def start(self, timeout_s: float = 60.0, die_with_parent: bool = True) -> None:
        """Returns when `SELECT 1` is answered. Raises ClickHouseNotStarted.

        The child leads a session of its own, so that Ctrl-C reaches only the parent. With `die_with_parent`
        it ends when this process does, however that ends (Linux).
        """
        if find_spec("chdb") is None:
            raise ClickHouseNotStarted(
                "the embedded ClickHouse engine is not installed: pip install 'disclosure-lineage[local]', "
                "or use a server of yours with --clickhouse URL"
            )
        self._data_dir.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout_s
        try:
            with occupy(self._data_dir) as lock:
                for attempt in range(1, _ATTEMPTS + 1):
                    self.port = self._choose_port()
                    if self._try_start(lock, deadline, die_with_parent):
                        break
                    # Between choosing a port and listening on it somebody else may have taken it.
                    if attempt == _ATTEMPTS or not self._port_was_taken():
                        raise ClickHouseNotStarted(
                            f"ClickHouse did not start; {self.log_path} ends:\n{self._log_tail()}"
                        )
        except FolderOccupied as occupied:
            holder = f" (process {occupied.pid})" if occupied.pid else ""
            raise ClickHouseNotStarted(
                f"{self._data_dir} is in use by another ClickHouse{holder}; stop that first"
            ) from None
        self._port_file.write_text(f"{self.port}\n")

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ends the child, its queries cancelled; by force when that takes longer. Does nothing when none runs."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """Ends the child as a power cut would. What was inserted stays."""
        self._end(signal.SIGKILL, timeout_s=15.0)

    def _end(self, how: signal.Signals, timeout_s: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _try_start(self, lock: int, deadline: float, die_with_parent: bool) -> bool:
        """True when the child answers, false when it ended or did not answer in time."""
        command = [sys.executable, "-m", "infra.local.clickhouse_endpoint", "--path", str(self._data_dir / "engine")]
        command += ["--host", self.host, "--port", str(self.port)]
        self._process = spawn(
            command, self._data_dir, lock, environment={}, output=self.log_path, die_with_parent=die_with_parent
        )
        while self.pid is not None and time.monotonic() < deadline:
            if self._answers(deadline - time.monotonic()):
                return True
            time.sleep(_LOOK_S)
        self.kill()
        return False

    def _answers(self, timeout_s: float) -> bool:
        _driver_log.disabled = True  # that nobody listens yet is no news
        try:
            with Client(self.host, self.port, sync_request_timeout=timeout_s, send_receive_timeout=timeout_s) as client:
                client.execute("SELECT 1")
        except (DriverError, OSError, EOFError):
            return False
        finally:
            _driver_log.disabled = False
        return True

    @property
    def _port_file(self) -> Path:
        return self._data_dir / "port"

    def _choose_port(self) -> int:
        """Raises ClickHouseNotStarted when the port asked for is taken."""
        if self._asked_port is not None:
            if not _is_free(self.host, self._asked_port):
                raise ClickHouseNotStarted(f"port {self._asked_port} is taken by another process")
            return self._asked_port
        try:
            last = int(self._port_file.read_text())
        except (OSError, ValueError):
            last = 0
        if last and _is_free(self.host, last):
            return last
        with socket.create_server((self.host, 0)) as any_free:
            port: int = any_free.getsockname()[1]
            return port

    def _port_was_taken(self) -> bool:
        return "Address already in use" in self._log_tail()

    def _log_tail(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True
