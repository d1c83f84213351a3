"""A seeded simulator of a company's telemetry, consent and sharing: the same arguments give the same events.

It yields events in our own JSON form (`schemas/mappings/jsonl.yaml`), in the order in which they arrive, which is
not the order in which they happened. It knows nothing of verdicts; people, ids and recipients are invented.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import orjson

from infra.simulator.catalogue import draw_catalogue
from infra.simulator.days import EVENTS_A_SESSION, SHARES_AN_EVENT, Days
from infra.simulator.faults import POISON
from infra.simulator.lives import DAY, draw_lives

Event = dict[str, Any]
_MONTH = 30.4375 * DAY


def simulate(
    people: int,
    months: float,
    seed: int,
    start: int,
    policies: Sequence[Mapping[str, Any]],
    recipients: Sequence[Mapping[str, Any]],
    *,
    events_per_person: float = 130.0,
    fault_rate: float = 0.04,
    duplicate_rate: float = 0.004,
    offline_rate: float = 0.03,
    poison_rate: float = 0.0,
) -> Iterator[Event]:
    """Events of `people` persons over `months` from `start` (ms since 1970 UTC, cut to its day), as they arrive.

    `policies` and `recipients` are records (`PolicyPublished`, `RecipientRegistered`). Each event has `topic`
    (telemetry, consent, sharing), `user_id`, and the keys of its contract with times in ISO 8601; the first event
    of a person has `identities`. `events_per_person` is the mean over the whole range; `fault_rate` the share of
    events that are spoilt, beside what people's lives make unlawful by themselves; `offline_rate` the share of
    sessions that arrive hours or days late; `poison_rate` the share of rows that no mapping can take.

    Memory grows with the people, not with the events. Raises `ValueError` when there is nothing to simulate.
    """
    for _, event in arrivals(
        people,
        months,
        seed,
        start,
        policies,
        recipients,
        events_per_person=events_per_person,
        fault_rate=fault_rate,
        duplicate_rate=duplicate_rate,
        offline_rate=offline_rate,
        poison_rate=poison_rate,
    ):
        yield event


def arrivals(
    people: int,
    months: float,
    seed: int,
    start: int,
    policies: Sequence[Mapping[str, Any]],
    recipients: Sequence[Mapping[str, Any]],
    *,
    events_per_person: float = 130.0,
    fault_rate: float = 0.04,
    duplicate_rate: float = 0.004,
    offline_rate: float = 0.03,
    poison_rate: float = 0.0,
) -> Iterator[tuple[int, Event]]:
    """As `simulate`, each event with the moment of its arrival (ms): non-decreasing."""
    if people < 1 or months <= 0:
        raise ValueError("nothing to simulate: give at least one person and more than zero months")
    rng = np.random.default_rng(seed)
    catalogue = draw_catalogue(rng, policies, recipients)
    begin = start - start % DAY
    days = max(1, round(months * _MONTH / DAY))
    end = begin + days * DAY
    lives = draw_lives(rng, people, begin, end, catalogue)
    # People join, leave and pause, so that a mean over everyone needs more sessions in the days that remain.
    here = np.minimum(lives.left, end) - lives.joined + np.maximum(0, end - np.minimum(lives.returned, end))
    present = float(np.maximum(here, 0) @ lives.pace) / (people * days * DAY)
    sessions = events_per_person / days / (EVENTS_A_SESSION * (1 + SHARES_AN_EVENT)) / present
    drawn = Days(rng, lives, catalogue, sessions, fault_rate, duplicate_rate, offline_rate)
    number = {name: index for index, name in enumerate(lives.names)}
    seen = np.zeros(people, dtype=bool)
    waiting: list[tuple[int, Event]] = []
    for day in range(days):
        midnight = begin + (day + 1) * DAY
        waiting += drawn.draw(midnight - DAY)
        waiting.sort(key=lambda item: item[0])
        if day == days - 1:
            ready, waiting = waiting, []
        else:
            cut = next((at for at, item in enumerate(waiting) if item[0] >= midnight), len(waiting))
            ready, waiting = waiting[:cut], waiting[cut:]
        poison = set(np.flatnonzero(rng.random(len(ready)) < poison_rate).tolist()) if poison_rate else ()
        for index, (at, event) in enumerate(ready):
            person = number[event["user_id"]]
            if index in poison:
                yield at, {**event, **POISON[index % len(POISON)]}
            if not seen[person]:
                seen[person] = True
                event["identities"] = lives.identities(person)
            yield at, event


def write_jsonl(events: Iterable[Event], file: IO[bytes]) -> int:
    """Write events as JSON lines to a file opened for bytes; how many there were."""
    count = 0
    lines: list[bytes] = []
    for event in events:
        count += 1
        lines.append(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
        if len(lines) == 4096:
            file.write(b"".join(lines))
            lines.clear()
    file.write(b"".join(lines))
    return count
