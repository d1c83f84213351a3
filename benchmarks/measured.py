"""Measures one job in a process of its own: CPU time of the whole process (librdkafka's threads included), wall time,
and the most memory it held, from a first to a last event."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from threading import Event, Thread
from typing import Any

IDLE = 0.01


@dataclass(frozen=True)
class Measurement:
    """`events_per_s` by the wall clock; `cpu_us_per_event` of this process alone."""

    system: str
    events: int
    events_per_s: float
    cpu_us_per_event: float
    rss_mb: float

    def as_json(self) -> dict[str, Any]:
        return {
            "system": self.system,
            "events": self.events,
            "events_per_s": round(self.events_per_s),
            "cpu_us_per_event": round(self.cpu_us_per_event, 2),
            "rss_mb": round(self.rss_mb),
        }


@dataclass(frozen=True)
class Phase:
    """A stretch of a job: it ends when the job's counter reaches `until`. `before` is run in the parent while the
    job's process is stopped."""

    system: str
    until: int
    before: Callable[[], None] | None = None


Job = Callable[[Any, Event, Callable[[Callable[[], int]], None]], None]


def measure(job: Job, arguments: Any, phases: list[Phase], timeout: float = 600.0) -> list[Measurement]:
    """Runs `job(arguments, stop, counting)` in a fresh process; it must call `counting` with a function that gives
    the number of events done so far, and return when `stop` is set. One measurement a phase."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # It stops itself where the parent has work of its own before the next phase, and nowhere else.
    pauses = [following.before is not None for following in phases[1:]] + [False]
    stretches = [(phase.system, phase.until, pause) for phase, pause in zip(phases, pauses, strict=True)]
    process = context.Process(target=_child, args=(job, arguments, stretches, theirs))
    process.start()
    theirs.close()
    results: list[Measurement] = []
    try:
        for phase in phases:
            if phase.before is not None:
                phase.before()
                if process.pid is not None and results:
                    os.kill(process.pid, signal.SIGCONT)
            if not ours.poll(timeout):
                raise TimeoutError(f"{phase.system}: not done after {timeout:.0f} s")
            results.append(ours.recv())
    except EOFError:
        raise RuntimeError(f"{phases[len(results)].system}: its process died; its log is above") from None
    finally:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGCONT)
        process.join(20)
        if process.is_alive():
            process.kill()
            process.join()
    return results


def _child(job: Job, arguments: Any, phases: list[tuple[str, int, bool]], parent: Connection) -> None:
    stop = Event()
    count: list[Callable[[], int]] = []

    def watch() -> None:
        while not count:
            time.sleep(IDLE)
        done = count[0]()
        for system, until, pause in phases:
            # The clock of a phase starts with its first events, not with the wait for them.
            while count[0]() == done:
                time.sleep(IDLE)
            cpu, wall, first = time.process_time(), time.monotonic(), count[0]()
            while (done := count[0]()) < until:
                time.sleep(IDLE)
            cpu, wall = time.process_time() - cpu, time.monotonic() - wall
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            n = max(done - first, 1)
            parent.send(Measurement(system, n, n / wall, cpu / n * 1e6, rss))
            if pause:
                os.kill(os.getpid(), signal.SIGSTOP)
        stop.set()

    Thread(target=watch, daemon=True).start()
    job(arguments, stop, count.append)


def ratios(results: list[Measurement], ours: str) -> dict[str, float]:
    """How many times a peer's throughput per CPU second ours is, by peer."""
    mine = next(r for r in results if r.system == ours)
    return {r.system: round(r.cpu_us_per_event / mine.cpu_us_per_event, 1) for r in results if r.system != ours}
