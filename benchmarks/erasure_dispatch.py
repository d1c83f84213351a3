"""How long from the requests to the last command: many erasures at many recipients, on a whole stack of its own.

The recipients are simulated OpenDSR processors in a process of their own, which sign what they say; they share the
machine with the stack. Time runs from the first request told until the last recipient has seen its command.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

from processors.pseudonyms import alias
from streams.erasure_intake import ErasureIntake
from streams.kafka import Kafka
from streams.lag import wait_until_done
from streams.producer import LineageProducer

SYSTEM = "requests to last command"
START_MS = 1_772_323_200_000

# Plays recipients in a process of its own: folder, ids, the connectors.yaml and the secrets to write; sets the first
# event once they listen at the URL in the folder's file `url`, ends with the second.
Play = Callable[[Path, Sequence[str], Path, Path, ProcessEvent, ProcessEvent], None]


def recipient_ids(count: int) -> list[str]:
    return [f"bench-recipient-{n:02}" for n in range(count)]


def run(
    kafka: Kafka,
    producer: LineageProducer,
    pepper: bytes,
    data: Path,
    play: Play,
    say: Callable[[str], None],
    requests: int = 1000,
    targets: int = 20,
) -> dict[str, Any]:
    """Measures on a stack that runs on the folder `data`, with recipients that `play` plays. Whether the disclosures
    were lawful does not matter.

    `results` as other benchmarks: `seconds`, `seconds_telling` of them for the requests themselves, `commands_per_s`.
    """
    context = multiprocessing.get_context("spawn")
    up, stop = context.Event(), context.Event()
    folder = data / "recipients"
    folder.mkdir()
    arguments = (folder, recipient_ids(targets), data / "connectors.yaml", data / "secrets", up, stop)
    process = context.Process(target=play, args=arguments, daemon=True)
    process.start()
    try:
        if not up.wait(60):
            raise TimeoutError("the simulated recipients do not start")
        url = (folder / "url").read_text()
        users = [f"bench-user-{n:06}" for n in range(requests)]
        say(f"{requests * targets:,} disclosures of {requests:,} people")
        for number, user in enumerate(users):
            for place, name in enumerate(recipient_ids(targets)):
                at = START_MS + 1000 * (number * targets + place)
                producer.shared(user, name, ["user.device"], purpose="service", occurred_at=at)
        producer.flush()
        wait_until_done(kafka.admin(), 300)
        say(f"{requests:,} requests")
        intake = ErasureIntake(kafka)
        started = time.monotonic()
        for user in users:
            intake.step(alias(pepper, user), uuid4(), "verified", verified_by="bench")
        told = time.monotonic() - started
        seconds = _until_seen(url, requests * targets, say) - started
        intake.close()
    finally:
        stop.set()
        process.join(30)
    return {
        "results": [
            {
                "system": SYSTEM,
                "requests": requests,
                "targets": targets,
                "seconds": round(seconds, 1),
                "seconds_telling": round(told, 1),
                "commands_per_s": round(requests * targets / seconds),
            }
        ],
        "ratios": {},
    }


def _until_seen(url: str, wanted: int, say: Callable[[str], None]) -> float:
    """When the recipients had seen so many different commands (monotonic)."""
    told = time.monotonic()
    while True:
        asked = time.monotonic()
        with urlopen(f"{url}/control/truth", timeout=60) as answer:
            truth = json.load(answer)
        seen = sum(len(recipient["commands"]) for recipient in truth.values())
        now = time.monotonic()
        if seen >= wanted:
            return now
        if now - told > 10:
            say(f"{seen:,} of {wanted:,} commands have arrived")
            told = now
        # Telling all they know keeps the recipients from answering: asked for a tenth of the time at most.
        time.sleep(max(0.5, 9 * (now - asked)))
