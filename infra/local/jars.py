"""The jars Apache Kafka runs on, fetched once by Maven coordinates and checked against a lock of hashes.

`kafka-jars.lock` beside this file is what `org.apache.kafka:kafka_2.13` and its logging back-end need, all of
it: one line for each jar, `group:artifact:version sha256 bytes`. Where a jar comes from does not matter, for
none is accepted whose SHA-256 differs from the lock.

To follow a new release: resolve the two roots with Maven into a folder (`dependency:copy-dependencies
-DincludeScope=runtime -Dmdep.useRepositoryLayout=true`), then
`python -m infra.local.jars FOLDER > infra/local/kafka-jars.lock`.

This module never names a repository's host (it is an argument, the user's Maven setting, or the default of
the client library) and never puts an unverified file under a jar's final name.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

LOCK_FILE = Path(__file__).with_name("kafka-jars.lock")

_PARALLEL_DOWNLOADS = 8
_HTTP_TIMEOUT_S = (10.0, 60.0)  # connect, silence between two reads
_MAVEN_TIMEOUT_S = 600.0

Progress = Callable[[str], None]


class JarsUnavailable(RuntimeError):
    """Some of Kafka's jars can neither be found on this machine nor fetched; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: Maven coordinates, and the only bytes accepted for them."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @property
    def coordinates(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def repository_path(self) -> str:
        """Where a repository in Maven's layout keeps the jar, relative to its root."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.file_name}"

    def is_at(self, path: Path) -> bool:
        """Whether `path` holds exactly the locked bytes."""
        try:
            if path.stat().st_size != self.size:
                return False
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


def read_lock(path: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """The jars of the lock, in its order. Lines that start with `#` are comments."""
    jars = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            coordinates, sha256, size = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256, int(size)))
    return tuple(jars)


def kafka_version(jars: Iterable[Jar] | None = None) -> str:
    """The broker's release that the lock pins, such as `4.4.0`."""
    return next(jar.version for jar in jars or read_lock() if jar.artifact.startswith("kafka_"))


def default_cache_dir() -> Path:
    """The folder of this user that keeps the jars of the locked Kafka release, as the platform wants it."""
    if sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "disclosure-lineage" / f"kafka-{kafka_version()}"


def classpath(directory: Path) -> str:
    """The Java class path of the locked jars in `directory`; whatever else lies there is left out."""
    return os.pathsep.join(str(directory / jar.file_name) for jar in read_lock())


def ensure_jars(
    cache_dir: Path,
    progress: Progress = lambda _: None,
    *,
    maven_home: Path | None = None,
    maven_repository: str | None = None,
) -> Path:
    """See to it that every locked jar stands verified in `cache_dir`, and return that folder.

    Missing or damaged jars are taken, in this order, from the user's Maven repository, by HTTP, and from the
    `mvn` command, which alone may know the credentials a company's mirror asks for. Any number of processes
    may do this at once for one folder: files appear under their final names whole or not at all.

    Args:
        cache_dir: where the jars are kept between runs; made if needed.
        progress: receives a line of text now and then while jars are fetched; never when all are there.
        maven_home: the user's Maven folder with `repository/` and `settings.xml`; `~/.m2` by default.
        maven_repository: base URL of the only repository to fetch from, instead of the configured mirror or
            the public default.

    Raises:
        JarsUnavailable: a jar could not be had from anywhere.
    """
    maven_home = maven_home or Path.home() / ".m2"
    cache_dir.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
        jars = read_lock()
        there = pool.map(lambda jar: jar.is_at(cache_dir / jar.file_name), jars)
        missing = [jar for jar, is_there in zip(jars, there, strict=True) if not is_there]
        missing = [jar for jar in missing if not _copy(jar, maven_home / "repository", cache_dir)]
        reasons = []
        if missing:
            missing, reason = _download(missing, cache_dir, pool, progress, maven_home, maven_repository)
            reasons.append(reason)
        if missing and maven_repository is None:
            missing, reason = _ask_maven(missing, cache_dir, progress)
            reasons.append(reason)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise JarsUnavailable(
            f"Apache Kafka's jars cannot be had: {missing[0].coordinates}{more} "
            f"({'; '.join(reason for reason in reasons if reason)}). "
            "Use a broker you have with --kafka HOST:PORT, name a Maven repository that this machine "
            f"reaches, or put the jars of {LOCK_FILE.name} into {cache_dir}."
        )
    return cache_dir


def _copy(jar: Jar, repository: Path, cache_dir: Path) -> bool:
    """Copy `jar` from a folder in Maven's layout, if it is there with the locked bytes."""
    source = repository / jar.repository_path
    if not jar.is_at(source):
        return False
    with source.open("rb") as file:
        _store(jar, iter(lambda: file.read(1 << 20), b""), cache_dir)
    return True


def _store(jar: Jar, chunks: Iterator[bytes], cache_dir: Path) -> None:
    """Write a jar beside its place, verify it, and only then give it its name.

    Raises ValueError when the bytes are not the locked ones.
    """
    # The suffix keeps an abandoned part of a killed process from ever being taken for a jar.
    handle, part = tempfile.mkstemp(prefix=jar.file_name, suffix=".part", dir=cache_dir)
    try:
        digest = hashlib.sha256()
        with open(handle, "wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != jar.sha256:
            raise ValueError(f"{jar.file_name} came with SHA-256 {digest.hexdigest()}, not that of the lock")
        os.chmod(part, 0o644)
        os.replace(part, cache_dir / jar.file_name)
    finally:
        Path(part).unlink(missing_ok=True)


def _download(
    jars: list[Jar],
    cache_dir: Path,
    pool: ThreadPoolExecutor,
    progress: Progress,
    maven_home: Path,
    maven_repository: str | None,
) -> tuple[list[Jar], str]:
    """Fetch jars over HTTP. Returns those that failed, and why the first of them did."""
    try:
        from maven_artifact import Artifact, Downloader
    except ImportError:
        return jars, "the package maven-artifact of the extra `local` is not installed"
    base = maven_repository or _configured_mirror(maven_home / "settings.xml")
    # Without an argument the library asks the public repository it knows.
    client = Downloader(base) if base else Downloader()

    def fetch(jar: Jar, attempts: int = 3) -> None:
        url = client.resolver.uri_for_artifact(Artifact(jar.group, jar.artifact, jar.version))
        try:
            with client.requestor.request(url, None, stream=True, timeout=_HTTP_TIMEOUT_S) as response:
                _store(jar, response.iter_content(1 << 16), cache_dir)
        except OSError:
            if attempts == 1:
                raise
            fetch(jar, attempts - 1)

    total_mib = sum(jar.size for jar in jars) / 2**20
    progress(f"fetching {len(jars)} jars of Apache Kafka {kafka_version()} ({total_mib:.0f} MiB)")
    first, rest = jars[0], jars[1:]
    try:
        # One alone and once, so that an unreachable repository costs one time-out and not one for each jar.
        fetch(first, attempts=1)
    except (OSError, ValueError) as error:
        return jars, f"{client.resolver.base}: {_one_line(error)}"
    failed, reason, done_bytes = [], "", first.size
    running = {pool.submit(fetch, jar): jar for jar in rest}
    for number, future in enumerate(as_completed(running), start=2):
        jar = running[future]
        try:
            future.result()
        except (OSError, ValueError) as error:
            failed.append(jar)
            reason = reason or f"{client.resolver.base}: {_one_line(error)}"
        else:
            done_bytes += jar.size
            progress(f"fetched {number} of {len(jars)} jars ({done_bytes / 2**20:.0f} of {total_mib:.0f} MiB)")
    return failed, reason


def _configured_mirror(settings: Path) -> str | None:
    """The URL of the mirror that the user's Maven settings put before the public repository, if any."""
    try:
        root = ET.parse(settings).getroot()
    except (OSError, ET.ParseError):
        return None
    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        mirrored = {name.strip() for name in (mirror.findtext("{*}mirrorOf") or "").split(",")}
        if mirrored & {"*", "external:*", "central"} and "!central" not in mirrored:
            return (mirror.findtext("{*}url") or "").strip() or None
    return None


def _ask_maven(jars: list[Jar], cache_dir: Path, progress: Progress) -> tuple[list[Jar], str]:
    """Let the `mvn` command of the machine fetch jars. Returns those that failed, and why."""
    mvn = shutil.which("mvn")
    if mvn is None:
        return jars, "the command mvn is not installed"
    progress(f"asking Maven for {len(jars)} jars")
    with tempfile.TemporaryDirectory() as folder:
        # Every jar is named, so nothing is left to Maven's own resolution of dependencies.
        dependencies = "".join(
            f"<dependency><groupId>{jar.group}</groupId><artifactId>{jar.artifact}</artifactId>"
            f"<version>{jar.version}</version><exclusions><exclusion><groupId>*</groupId>"
            "<artifactId>*</artifactId></exclusion></exclusions></dependency>"
            for jar in jars
        )
        Path(folder, "pom.xml").write_text(
            "<project><modelVersion>4.0.0</modelVersion><groupId>lineage</groupId><artifactId>kafka-jars"
            f"</artifactId><version>1</version><dependencies>{dependencies}</dependencies></project>",
            encoding="utf-8",
        )
        command = [mvn, "-q", "-B", "dependency:copy-dependencies", "-Dmdep.useRepositoryLayout=true"]
        try:
            done = subprocess.run(
                [*command, "-DoutputDirectory=jars"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=_MAVEN_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return jars, f"mvn: {_one_line(error)}"
        failed = [jar for jar in jars if not _copy(jar, Path(folder, "jars"), cache_dir)]
    said = next((line for line in done.stdout.splitlines() if "ERROR" in line), "no jar with the locked hash")
    return failed, f"mvn: {said}" if failed else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _lock_of(repository: Path) -> Iterator[str]:
    """The lines of a lock for all jars of a folder in Maven's layout."""
    yield "# Every jar that the local Apache Kafka broker runs on: group:artifact:version sha256 bytes"
    yield "# Roots: org.apache.kafka:kafka_2.13 and org.apache.logging.log4j:log4j-slf4j-impl; see jars.py"
    for path in sorted(repository.rglob("*.jar")):
        *group, artifact, version, _ = path.relative_to(repository).parts
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        yield f"{'.'.join(group)}:{artifact}:{version} {sha256} {path.stat().st_size}"


if __name__ == "__main__":
    print("\n".join(_lock_of(Path(sys.argv[1]))))
