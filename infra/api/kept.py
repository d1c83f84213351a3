"""What the audit API needs of Kafka, kept in memory: read again, in the background, when it is some seconds old."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock, Thread
from typing import Generic, TypeVar

from confluent_kafka import KafkaException

from audit.api.errors import Unavailable
from audit.api.freshness import fresh_since
from audit.api.services import Published
from processors.knowledge import Knowledge, Policy, Recipient
from streams.kafka import Kafka
from streams.publishing import published_policies, published_recipients
from streams.scan import MissingTopicError
from streams.serdes import Registry

log = logging.getLogger(__name__)

T = TypeVar("T")

_FRESH_SECONDS = 5.0
# Older than this it is not shown any more: whoever asks waits for it to be read.
_USABLE_SECONDS = 60.0


class Kept(Generic[T]):
    """Something read from Kafka. Thread-safe; reads nothing before it is asked. what: its name in an error."""

    def __init__(self, what: str, read: Callable[[], T]) -> None:
        self._what = what
        self._read = read
        self._kept: tuple[T, float] | None = None
        self._reading = Lock()

    def current(self) -> T:
        """As it was a minute ago at the most, and mostly some seconds ago; as it is now for whoever says `no-cache`
        (audit/api/freshness.py). Raises `Unavailable`."""
        if (moment := fresh_since()) is not None:
            return self._read_since(moment)
        if (kept := self._usable()) is not None:
            found, read_at = kept
            if time.monotonic() - read_at > _FRESH_SECONDS and self._reading.acquire(blocking=False):
                Thread(target=self._renew, name="kept", daemon=True).start()
            return found
        return self._read_since(time.monotonic() - _USABLE_SECONDS)

    def _read_since(self, moment: float) -> T:
        """What was read after this moment (monotonic), by others or now."""
        with self._reading:
            if self._kept is not None and self._kept[1] >= moment:
                return self._kept[0]
            # When it began: what was published meanwhile may be missing.
            begun = time.monotonic()
            try:
                self._kept = self._read(), begun
            except (KafkaException, TimeoutError, MissingTopicError) as error:
                log.warning("%s: %s", self._what, error)
                raise Unavailable(f"Kafka cannot be reached, which has the {self._what}: try again") from None
            return self._kept[0]

    def _usable(self) -> tuple[T, float] | None:
        kept = self._kept
        return kept if kept is not None and time.monotonic() - kept[1] < _USABLE_SECONDS else None

    def _renew(self) -> None:
        """The lock is held by the one who started this."""
        begun = time.monotonic()
        try:
            self._kept = self._read(), begun
        except Exception as error:
            log.warning("%s: %s", self._what, error)
        finally:
            self._reading.release()


def kept_publications(kafka: Kafka, registry: Registry | None) -> Kept[Published]:
    """All policies and registry entries."""

    def read() -> Published:
        policies, recipients = published_policies(kafka, registry), published_recipients(kafka, registry)
        knowledge = Knowledge(map(Policy.from_record, policies), map(Recipient.from_record, recipients))
        return Published(policies, recipients, knowledge)

    return Kept("policies and recipients", read)
