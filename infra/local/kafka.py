"""Apache Kafka itself on this machine: one KRaft broker as a child process, on loopback, its data in one folder.

`LocalKafka` formats the storage once, writes the broker's settings, starts it, waits until it answers, and
stops it; a restart on the same folder finds everything again, also after the broker was killed. The folder:

    log/                 topics, and the cluster's metadata
    server.properties    written anew on every start
    ports.json           the ports last used, taken again when they are free
    kafka.log, java.log  what the broker logs (rolled), and what the Java machine itself prints
    lock                 held by the living broker; contains its process id (`child_process.owner_pid`)

It runs on POSIX systems. This module never listens beyond loopback, never signals a process by anything but
the id it was started with, and never starts a second broker on a folder that has one.
"""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.local.child_process import FolderOccupied, occupy, spawn
from infra.local.class_archive import ClassArchive
from infra.local.jars import classpath
from infra.local.kafka_settings import LOG4J_PROPERTIES, PROPERTIES

_HOST = "127.0.0.1"
_POLL_S = 0.02
_LOG_TAIL_LINES = 15

# A heap that holds the local load with room to spare; the rest of Kafka's memory is the page cache.
_JVM = ("-Xms256m", "-Xmx1g", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData")
# Formatting is over before the second compiler would pay off.
_JVM_FORMAT = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_LOG4J = ("-Dlog4j2.configurationFile=log4j2.properties",)


class LocalKafkaError(RuntimeError):
    """The local broker cannot be started; the message says why, with the end of its log where it has one."""


class _PortTaken(LocalKafkaError):
    """Another program took a port between our look at it and the broker's."""


class LocalKafka:
    """One Apache Kafka broker, which is its own controller, as a child process with its data in a folder."""

    def __init__(
        self,
        data_dir: Path,
        *,
        jars: Path,
        java: Sequence[str],
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        die_with_parent: bool = True,
    ) -> None:
        """Nothing is started or written yet.

        Args:
            data_dir: the broker's own folder; made by `start`.
            jars: folder with the verified jars (`infra.local.jars.ensure_jars`).
            java: start of the command line (`infra.local.java.java_command`).
            port: the loopback port to serve; None takes the one last used in this folder if free, else a
                free one.
            settings: broker settings, by Kafka's names, that go before ours.
            die_with_parent: end the broker, cleanly, when this Python process ends in any way. Only Linux
                can do it; elsewhere a broker whose parent was killed stays until it is stopped by its id.
        """
        self._data_dir = data_dir.absolute()
        self._java = list(java)
        self._classpath = classpath(jars.absolute())
        self._archive = ClassArchive(self._java, [Path(jar) for jar in self._classpath.split(os.pathsep)])
        self._class_draft = self._data_dir / "classes.draft"
        self._wanted_port = port
        self._settings = dict(settings or {})
        self._die_with_parent = die_with_parent
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for `bootstrap.servers`. Raises LocalKafkaError before the first start."""
        if self._port is None:
            raise LocalKafkaError("the local Apache Kafka has not been started")
        return f"{_HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id of the living broker, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, timeout_s: float = 60.0) -> None:
        """Start the broker and return when it answers requests.

        Raises:
            LocalKafkaError: a broker already lives on the folder, the port is taken, the process ended, or
                it did not answer within `timeout_s`. Nothing is left running.
        """
        deadline = time.monotonic() + timeout_s
        self._data_dir.mkdir(parents=True, exist_ok=True)
        try:
            with occupy(self._data_dir) as lock:
                self._write("log4j2.properties", LOG4J_PROPERTIES)
                while not self._try_start(lock, deadline):
                    pass
        except FolderOccupied as occupied:
            raise LocalKafkaError(f"an Apache Kafka broker already runs: {occupied}; stop it first") from None

    def stop(self, timeout_s: float = 30.0) -> None:
        """Shut the broker down cleanly; kill it when that takes longer. Does nothing when none runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._archive.keep(self._class_draft, self._process.wait(timeout_s))
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the broker at once, as a power cut would (SIGKILL). Does nothing when none runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _try_start(self, lock: int, deadline: float) -> bool:
        """Start on ports chosen now. False when another program was quicker and other ports may do."""
        self._port, controller_port = self._choose_ports()
        properties = {
            **PROPERTIES,
            "listeners": f"PLAINTEXT://{_HOST}:{self._port},CONTROLLER://{_HOST}:{controller_port}",
            # A fixed voter, and not one remembered in the metadata, because its port may change.
            "controller.quorum.voters": f"1@{_HOST}:{controller_port}",
            **self._settings,
        }
        self._write("server.properties", _properties_text(properties))
        if not (self._data_dir / "log").exists():
            self._format(properties, deadline)
        try:
            self._launch(lock, deadline)
        except _PortTaken:
            if self._wanted_port is not None or time.monotonic() > deadline:
                raise
            return False
        self._write("ports.json", json.dumps({"port": self._port, "controller_port": controller_port}))
        return True

    def _choose_ports(self) -> tuple[int, int]:
        """The ports to serve clients and the controller on: last time's where they are still free."""
        try:
            last = json.loads((self._data_dir / "ports.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            last = {}
        with contextlib.ExitStack() as held:
            if self._wanted_port is not None:
                port = _reserve(held, self._wanted_port)
                if port is None:
                    raise LocalKafkaError(f"port {self._wanted_port} on {_HOST} is taken by another program")
            else:
                port = _reserve(held, last.get("port", 0)) or _reserve(held, 0)
            controller_port = _reserve(held, last.get("controller_port", 0)) or _reserve(held, 0)
        if port is None or controller_port is None:
            raise LocalKafkaError(f"no free port on {_HOST}")
        return port, controller_port

    def _format(self, properties: Mapping[str, str], deadline: float) -> None:
        """Make an empty storage with a cluster id of its own, beside its place, and move it there whole."""
        shutil.rmtree(self._data_dir / "log.new", ignore_errors=True)
        self._write("format.properties", _properties_text({**properties, "log.dirs": "log.new"}))
        # Kafka's form of an id: 22 characters of URL-safe base64.
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        command = [*self._java, *_JVM_FORMAT, *_LOG4J, "kafka.tools.StorageTool", "format"]
        try:
            subprocess.run(
                [*command, f"--cluster-id={cluster_id}", "--config=format.properties"],
                cwd=self._data_dir,
                env={**os.environ, "CLASSPATH": self._classpath},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=max(1.0, deadline - time.monotonic()),
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "output", None) or b"").decode("utf-8", "replace")
            raise LocalKafkaError(f"Apache Kafka's storage could not be formatted: {error}\n{said}") from error
        finally:
            (self._data_dir / "format.properties").unlink()
        (self._data_dir / "log.new").rename(self._data_dir / "log")

    def _launch(self, lock: int, deadline: float) -> None:
        """Start the process and wait for its answer; on any failure it is gone again."""
        # Native libraries are unpacked here; those of a killed broker would pile up.
        scratch = self._data_dir / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        log = self._data_dir / "kafka.log"
        log_start = log.stat().st_size if log.exists() else 0
        flags = [*_JVM, *_LOG4J, f"-Djava.io.tmpdir={scratch}", *self._archive.flags(self._class_draft)]
        try:
            self._process = spawn(
                [*self._java, *flags, "kafka.Kafka", "server.properties"],
                self._data_dir,
                lock,
                environment={"CLASSPATH": self._classpath},
                output=self._data_dir / "java.log",
                die_with_parent=self._die_with_parent,
            )
        except OSError as error:
            raise LocalKafkaError(f"Java cannot be started: {error}") from error
        try:
            self._await_answer(log_start, deadline)
        except BaseException:
            self.kill()
            raise

    def _await_answer(self, log_start: int, deadline: float) -> None:
        assert self._process is not None
        assert self._port is not None
        admin: AdminClient | None = None
        while True:
            if (code := self._process.poll()) is not None:
                said = self._logged(log_start)
                error = _PortTaken if "Address already in use" in said else LocalKafkaError
                raise error(f"Apache Kafka ended with code {code} before it answered:\n{_tail(said)}")
            if time.monotonic() > deadline:
                said = self._logged(log_start)
                raise LocalKafkaError(f"Apache Kafka did not answer in time:\n{_tail(said)}")
            if admin is None and _accepts_connections(self._port):
                # Only now, so that the client has no refused connection to back off from.
                admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
            if admin is not None:
                with contextlib.suppress(KafkaException):
                    found = admin.list_topics(timeout=2.0)
                    if found.brokers and found.cluster_id == self._cluster_id():
                        return
            time.sleep(_POLL_S)

    def _cluster_id(self) -> str:
        lines = (self._data_dir / "log" / "meta.properties").read_text(encoding="ascii").splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))

    def _logged(self, log_start: int) -> str:
        """What this start has logged: the Java machine, then the broker."""
        said = b""
        for name, start in (("java.log", 0), ("kafka.log", log_start)):
            with contextlib.suppress(OSError), (self._data_dir / name).open("rb") as file:
                file.seek(start)
                said += file.read()
        return said.decode("utf-8", "replace")

    def _write(self, name: str, text: str) -> None:
        (self._data_dir / name).write_text(text, encoding="utf-8")


def _tail(said: str) -> str:
    """The last lines of a Java program's log, without the frames of its stack traces."""
    lines = [line for line in said.splitlines() if not line.startswith("\t")]
    return "\n".join(lines[-_LOG_TAIL_LINES:]) or "(it logged nothing)"


def _reserve(held: contextlib.ExitStack, port: int) -> int | None:
    """Bind `port` (0: any free one) for as long as `held` is open, and return it; None when it is taken."""
    listener = held.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OSError:
        return None
    return int(listener.getsockname()[1])


def _accepts_connections(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _properties_text(properties: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in properties.items())
