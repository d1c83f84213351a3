"""An event that signals set. Signals alone: what is done about it is the matter of whoever waits."""

from __future__ import annotations

import contextlib
import os
import signal
from threading import Event, Thread


def set_by_signals(stop: Event, *numbers: signal.Signals) -> None:
    """Has these signals set the event, however many come and whatever they interrupt. Main thread only.

    Not in the handler itself: it runs between any two steps of the main thread, which may hold the event's lock just
    then, because a signal came a moment ago; then both would wait for ever.
    """
    reader, writer = os.pipe()
    # Nobody reads it any more once the event is set.
    os.set_blocking(writer, False)

    def told(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writer, b".")

    def watch() -> None:
        os.read(reader, 1)
        stop.set()

    Thread(target=watch, name="signals", daemon=True).start()
    for number in numbers:
        signal.signal(number, told)
