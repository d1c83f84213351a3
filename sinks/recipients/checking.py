"""Whether recipients can be asked as connectors.yaml says: what each announces, before anybody is to be erased.

Sends nothing of anybody.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sinks.recipients.configuration import Connectors, KafkaTarget, ManualTask, Way
from sinks.recipients.connector import Discoverable, DiscoveryError


@dataclass(frozen=True)
class Finding:
    """`usable`: whether the recipient announces something that it can be asked by; None: it announces nothing."""

    recipient: str
    protocol: str
    usable: bool | None
    detail: str


async def check(connectors: Connectors) -> list[Finding]:
    """One finding for each recipient with an entry, by its name. Within the connectors' own event loop."""
    names = sorted(connectors.recipients)
    return list(await asyncio.gather(*(_find(name, connectors.recipients[name]) for name in names)))


async def _find(name: str, way: Way) -> Finding:
    if isinstance(way, KafkaTarget):
        return Finding(name, way.protocol, None, "commands are sealed to its key")
    if isinstance(way, ManualTask):
        return Finding(name, way.protocol, None, "a person asks")
    try:
        announced = await way.discover() if isinstance(way, Discoverable) else None
    except DiscoveryError as error:
        return Finding(name, way.protocol, False, str(error))
    if announced is None:
        return Finding(name, way.protocol, None, "announces nothing: asked as its document says")
    return Finding(name, way.protocol, True, announced)
