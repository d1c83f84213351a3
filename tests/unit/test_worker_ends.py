"""A worker that is told to stop ends: however often it is told, and whatever its client libraries wait for."""

import subprocess
import sys

HANGS = """
import logging, threading, time
from infra.cli.worker import end_in_time
logging.basicConfig()
stop = threading.Event()
end_in_time(stop, 0.2)
time.sleep({before})
stop.set()
time.sleep({after})
"""


INTERRUPTED = """
import os, signal, sys, threading, time
from infra.stopping import set_by_signals

class Interrupted(threading.Event):
    # Another signal comes just while the first one sets it.
    def set(self):
        with self._cond:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            self._flag = True
            self._cond.notify_all()

stop = Interrupted()
set_by_signals(stop, signal.SIGTERM, signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(0 if stop.wait(20) else "not told")
"""


def test_a_signal_that_interrupts_another_one_does_no_harm() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr


def ended(before: float, after: float) -> subprocess.CompletedProcess[str]:
    program = HANGS.format(before=before, after=after)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_what_hangs_is_ended_with_a_word() -> None:
    done = ended(0, 50)
    assert done.returncode == 1
    assert "not stopped after" in done.stderr


def test_what_stops_by_itself_is_left_alone_and_nothing_ends_before_it_is_told() -> None:
    assert ended(0.6, 0).returncode == 0
