"""How simulated recipients misbehave: a profile of probabilities and times, by name or from a YAML document.

Whether a misbehaviour shows is decided by a hash of the seed and of what it is about, not by a generator that requests
share: the order in which requests come changes nothing. Never reads the clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from streams.documents import load_document
from streams.identities import IDENTITY_TYPES

Range = tuple[float, float]


@dataclass(frozen=True)
class Profile:
    """Probabilities (0 to 1) of each misbehaviour, and the times (s, drawn evenly between two) that go with them."""

    # Of every request.
    slow: float = 0.0
    error_500: float = 0.0
    error_503: float = 0.0
    error_429: float = 0.0
    redirect: float = 0.0
    malformed: float = 0.0
    huge: float = 0.0
    # Of every dispatch that was taken.
    drop: float = 0.0
    # Of every command.
    refuse: float = 0.0
    exempt: float = 0.0
    never: float = 0.0
    late: float = 0.0
    forget: float = 0.0
    keep: float = 0.0
    reorder_callbacks: float = 0.0
    # Of every callback, and of every try of one; for Kafka: of every receipt.
    lose_callback: float = 0.0
    duplicate_callback: float = 0.0
    bad_signature: float = 0.0
    # Of every time the certificate is fetched.
    self_signed: float = 0.0
    wrong_domain: float = 0.0

    start_s: Range = (0.05, 0.2)
    complete_s: Range = (0.3, 1.0)
    late_s: Range = (5.0, 20.0)
    forget_s: Range = (0.1, 0.3)
    slow_s: Range = (1.0, 3.0)
    callback_retry_s: Range = (0.3, 0.7)
    callback_tries: int = 8
    retry_after_s: int = 1
    huge_mib: int = 32
    # OpenDSR's identity types that it can find a person by; a command with none of them is refused.
    identities: tuple[str, ...] = IDENTITY_TYPES
    # OpenDSR 2.0 knows these two; a processor of today might know more.
    regulations: tuple[str, ...] = ("gdpr", "ccpa")

    def changed(self, values: Mapping[str, Any]) -> Profile:
        """This profile with other values, as a document gives them (checked by `profile_schema`)."""
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return replace(self, **given)


MISBEHAVIOURS = tuple(entry.name for entry in fields(Profile) if isinstance(entry.default, float))


@dataclass(frozen=True)
class Profiles:
    """The profile of every recipient: its own, else the default."""

    default: Profile = field(default_factory=Profile)
    recipients: Mapping[str, Profile] = field(default_factory=dict)

    def of(self, recipient: str) -> Profile:
        return self.recipients.get(recipient, self.default)


def named_profiles() -> dict[str, Profile]:
    """The profiles that have a name. `wild` still lets every command through in the end, save what `refuse`, `exempt`,
    `never` and `keep` do."""
    mild = Profile(
        slow=0.05,
        error_500=0.05,
        error_503=0.05,
        error_429=0.05,
        drop=0.03,
        late=0.1,
        lose_callback=0.05,
        duplicate_callback=0.1,
        reorder_callbacks=0.05,
        late_s=(2.0, 5.0),
    )
    wild = Profile(
        slow=0.1,
        error_500=0.15,
        error_503=0.1,
        error_429=0.1,
        redirect=0.03,
        malformed=0.05,
        huge=0.02,
        drop=0.15,
        refuse=0.03,
        exempt=0.03,
        never=0.03,
        late=0.2,
        forget=0.1,
        keep=0.03,
        reorder_callbacks=0.2,
        lose_callback=0.3,
        duplicate_callback=0.3,
        bad_signature=0.1,
        self_signed=0.05,
        wrong_domain=0.05,
        late_s=(2.0, 8.0),
    )
    return {"none": Profile(), "mild": mild, "wild": wild}


def load_profiles(source: str | Path) -> Profiles:
    """Profiles by name (`none`, `mild`, `wild`) or from a YAML document.

    Raises `DocumentError` with every problem of the document, `OSError` when it cannot be read.
    """
    named = named_profiles()
    if str(source) in named:
        return Profiles(named[str(source)])
    document = load_document(Path(source), _document_schema())
    own = {name: profile_of(values) for name, values in document.get("recipients", {}).items()}
    return Profiles(profile_of(document.get("default", {})), own)


def profile_of(values: Mapping[str, Any], base: Profile | None = None) -> Profile:
    """A profile from checked values; `profile` names the one that they change (else `base`, else `none`)."""
    named = named_profiles()
    start = named[values["profile"]] if "profile" in values else base or named["none"]
    return start.changed({key: value for key, value in values.items() if key != "profile"})


def change_of(text: str, base: Profile) -> Profile:
    """A running recipient's profile changed by a YAML or JSON text. Raises `DocumentError`."""
    document = load_document(text, profile_schema(), "profile")
    return profile_of(document, base)


def profile_schema() -> dict[str, Any]:
    """JSON Schema of one profile in a document."""
    properties: dict[str, Any] = {"profile": {"enum": list(named_profiles())}}
    number = {"type": "number", "minimum": 0}
    for entry in fields(Profile):
        if entry.name == "identities":
            properties[entry.name] = {"type": "array", "items": {"enum": list(IDENTITY_TYPES)}}
        elif entry.name == "regulations":
            properties[entry.name] = {"type": "array", "items": {"type": "string"}}
        elif isinstance(entry.default, float):
            properties[entry.name] = number | {"maximum": 1}
        elif isinstance(entry.default, int):
            properties[entry.name] = {"type": "integer", "minimum": 0}
        else:
            properties[entry.name] = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _document_schema() -> dict[str, Any]:
    one = profile_schema()
    return {
        "type": "object",
        "properties": {"default": one, "recipients": {"type": "object", "additionalProperties": one}},
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class Fate:
    """What chance has decided: the same seed, recipient and matter always give the same answer."""

    seed: int
    recipient: str

    def draw(self, *about: object) -> float:
        """Evenly spread over [0, 1)."""
        text = "\x1f".join(map(str, (self.seed, self.recipient, *about)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64

    def shows(self, profile: Profile, misbehaviour: str, *about: object) -> bool:
        probability: float = getattr(profile, misbehaviour)
        return self.draw(misbehaviour, *about) < probability

    def between(self, bounds: Range, *about: object) -> float:
        """Evenly spread between two times (s)."""
        low, high = bounds
        return low + (high - low) * self.draw("time", *about)
