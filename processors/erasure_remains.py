"""What is left after an erasure, for how long, and why it is tied to no one. Said in every certificate.

One entry for every topic whose records say something of a person; a test compares them with the catalogue of topics,
so that none is forgotten and no time is wrong. Pure data: never says that something is gone that is not.
"""

from __future__ import annotations

from dataclasses import dataclass

# Kafka drops whole segments: a record may stay for as long as a segment may grow (`segment.ms`) on top.
SEGMENT_DAYS = 7
# Compaction begins within an hour (`max.compaction.lag.ms`), and an idle partition waits for the heartbeat first.
COMPACTION_HOURS = 2


@dataclass(frozen=True)
class Remains:
    """What stays in some topics. `days`: their retention; `hours`: until compaction has removed it; neither: for ever.

    `what`: what it is. `why`: why nobody is named by it.
    """

    topics: tuple[str, ...]
    what: str
    why: str
    days: int | None = None
    hours: int | None = None


_PSEUDONYM = (
    "the key is a pseudonym that only the holder of the secret pepper could make, out of the user id, and no table "
    "leads from it to anything else; the values hold no identifier and no personal value"
)
_RANDOM = (
    "the key is a random number, and the link from it to the person is destroyed; as long as the events as they came "
    "in are kept, the holder of the pepper alone could lead from those to these, by the ids of events"
)

REMAINS: tuple[Remains, ...] = (
    Remains(("telemetry", "consent", "sharing"), "the events as they came in", _PSEUDONYM, days=30),
    Remains(
        ("dead-letters",),
        "messages that could not be read, if there were any",
        "the key is the same pseudonym where the sender gave it one; what the messages hold is the sender's",
        days=30,
    ),
    Remains(("erasure-requests",), "the steps of this request", _PSEUDONYM, days=60),
    Remains(
        ("subject-state",),
        "that there was an erasure, and when (the table subjects holds the same): later events of this person are "
        "violations until they consent anew",
        _PSEUDONYM,
    ),
    Remains(("lineage",), "the record of what was collected, disclosed and decided", _RANDOM),
    Remains(("erased-subjects",), "the random number, so that no rebuild brings anything back", _RANDOM),
    Remains(
        ("lineage-seals",),
        "digests of ranges of that record, signed, so that a change of it shows",
        "a digest of many records holds none of them",
    ),
    Remains(("violations",), "verdicts that were violations or gaps", _RANDOM, days=90),
    Remains(("revision-requests",), "orders to judge again", _RANDOM, days=7),
    Remains(
        ("erasure-commands",),
        "commands to recipients that take them from Kafka",
        "identifiers in them are sealed to the recipient's key: nobody else can open them, the sender included",
        days=60,
    ),
    Remains(
        ("erasure-receipts",),
        "what recipients answered",
        "it names the request and the recipient, never the person",
        days=60,
    ),
    Remains(
        ("subject-state", "identities", "erasure-state"),
        "values that have been overwritten: the link, sealed identifiers, earlier states of the request",
        "they are removed by compaction; until then identifiers are sealed to the erasure controller's key",
        hours=COMPACTION_HOURS,
    ),
    Remains(("erasure-state",), "this request: times, targets, answers, certificate", "it names no person"),
)
