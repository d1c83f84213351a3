"""Dead letters: a message that a job could not take, whole, with where it was and why. Nothing is ever dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from streams.serdes import DecodeError, Serializer

# A bad deploy must stop a job, not divert everything: above this share of a batch, and this many, it does.
POISON_RATIO = 0.5
POISON_AT_LEAST = 100


class MostlyPoisonError(Exception):
    """Most of a batch could not be taken: the job stops before any of it is diverted."""


@dataclass(frozen=True)
class Refusal:
    """One message refused: `error_class` is a stable word, `reason` a sentence that quotes no content."""

    message: Message
    error_class: str
    reason: str


def refusal(message: Message, error: DecodeError) -> Refusal:
    return Refusal(message, error.error_class, str(error))


def check_poison(refusals: list[Refusal], of: int, ratio: float = POISON_RATIO) -> None:
    """Raises `MostlyPoisonError` when a batch of `of` messages is mostly poison."""
    if len(refusals) >= POISON_AT_LEAST and len(refusals) > ratio * of:
        worst = refusals[0]
        raise MostlyPoisonError(
            f"{len(refusals)} of {of} messages cannot be taken, e.g. {worst.message.topic()}/"
            f"{worst.message.partition()}/{worst.message.offset()}: {worst.reason}. Nothing was diverted. Mend the "
            "producer or the deploy; to divert them all to dead-letters, start the worker with --poison-ratio 1"
        )


class DeadLetterWriter:
    """Turns refusals into records of the topic `dead-letters`."""

    def __init__(self, job: str, serializer: Serializer) -> None:
        self._job = job
        self._serializer = serializer

    def encode(self, refused: Refusal, failed_at: int, with_value: bool = True) -> bytes:
        """The DeadLetter's value. `with_value` False where the bytes may hold raw identifiers."""
        message = refused.message
        headers: list[Any] = message.headers() or []
        return self._serializer.encode(
            {
                "source_topic": message.topic(),
                "source_partition": message.partition(),
                "source_offset": message.offset(),
                "job": self._job,
                "error_class": refused.error_class,
                "reason": refused.reason,
                "failed_at": failed_at,
                "value": message.value() if with_value else None,
                "headers": [{"name": name, "value": value} for name, value in headers] if with_value else [],
            }
        )
