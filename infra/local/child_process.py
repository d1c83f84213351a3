"""A child process that owns a folder: one at a time, known by its id, and gone when its parent is gone.

The folder's `lock` is an advisory file lock that the child inherits: it is held exactly as long as the child
lives, however child or parent end, so no process id is ever trusted to be still the same process.

POSIX only. This module never signals a process.
"""

import contextlib
import fcntl
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_LOCK_FILE = "lock"
# Whoever merely looks whether the lock is free holds it for an instant.
_LOOK_S = 0.3

# Runs first in the child and then becomes the command: the kernel (Linux) sends SIGTERM when the parent is gone.
_TIED_TO_PARENT = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent process ended before its child began")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class FolderOccupied(RuntimeError):
    """A living process owns the folder. `pid` is None while that process is only being started."""

    def __init__(self, folder: Path, pid: int | None) -> None:
        super().__init__(f"{folder} belongs to " + (f"process {pid}" if pid else "a process that just starts"))
        self.pid = pid


@contextlib.contextmanager
def occupy(folder: Path) -> Iterator[int]:
    """Own `folder` for the length of the block, and beyond it through a child spawned with the lock.

    Yields the lock's file descriptor for `spawn`. Raises FolderOccupied.
    """
    lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + _LOOK_S
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                raise FolderOccupied(folder, _read_pid(lock))
            time.sleep(_LOOK_S / 20)
        os.ftruncate(lock, 0)
        yield lock
    finally:
        os.close(lock)


def owner_pid(folder: Path) -> int | None:
    """The id of the process that owns `folder`; None when there is none, or it is only being started."""
    try:
        lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(lock) else _read_pid(lock)
    finally:
        os.close(lock)


def spawn(
    command: Sequence[str],
    folder: Path,
    lock: int,
    *,
    environment: Mapping[str, str],
    output: Path,
    die_with_parent: bool,
) -> subprocess.Popen[bytes]:
    """Start `command` in `folder`, as the owner of its lock and the leader of a session of its own.

    Args:
        lock: what `occupy` yielded.
        environment: variables beside those of this process.
        output: file that takes standard output and error; emptied first.
        die_with_parent: send the child SIGTERM when this process ends in any way. Needs Linux; elsewhere
            the child of a killed parent lives on.
    """
    command = list(command)
    if die_with_parent and sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), *command]
    started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

    def start_and_stay() -> None:
        try:
            with output.open("wb") as log:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env={**os.environ, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        except OSError as error:
            started.put(error)
            return
        started.put(process)
        process.wait()

    # To Linux the parent is the *thread* that forked: this one stays as long as the child, the caller's may not.
    threading.Thread(target=start_and_stay, name=f"parent of {command[0]}", daemon=True).start()
    outcome = started.get()
    if isinstance(outcome, OSError):
        raise outcome
    os.pwrite(lock, b"%d\n" % outcome.pid, 0)
    return outcome


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(lock: int) -> int | None:
    return int(os.pread(lock, 20, 0) or 0) or None
