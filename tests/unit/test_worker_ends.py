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


TOLD_OFTEN = """
import os, signal, sys, threading
from infra.stopping import set_by_signals
for turn in range(300):
    stop = threading.Event()
    set_by_signals(stop, signal.SIGTERM, signal.SIGINT)
    # The second one interrupts what the first one has begun, now here, now there.
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    while not stop.wait(5):
        sys.exit("not told")
"""


def test_signals_that_come_at_once_stop_it_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD_OFTEN], capture_output=True, text=True, timeout=60, check=False)
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
