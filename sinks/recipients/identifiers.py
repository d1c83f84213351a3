"""Which of a person's identifiers a recipient is told, and in which form. Pure; keeps none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from processors.erasure_commands import Answer, Identity

HASHES = ("sha256", "sha1", "md5")


def known_there(identities: Sequence[Identity], supported: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """The identifiers that a recipient supports as (type, format), each once for its type, in OpenDSR's form.

    Raw values are hashed where it wants hashes, and are preferred raw where it takes both. A hash is never turned back.
    """
    wanted: dict[str, list[str]] = {}
    for kind, form in supported:
        wanted.setdefault(kind, []).append(form)
    told = []
    for identity in identities:
        forms = wanted.get(identity["identity_type"], [])
        given = identity["identity_format"]
        if given in forms:
            told.append(dict(identity))
        elif given == "raw":
            for form in [one for one in HASHES if one in forms][:1]:
                value = hashed(identity["identity_type"], identity["identity_value"], form)
                told.append({**identity, "identity_format": form, "identity_value": value})
    # What is known raw says more than a hash of it that was given beside it.
    told.sort(key=lambda one: one["identity_format"] != "raw")
    distinct = {(one["identity_type"], one["identity_format"], one["identity_value"]): one for one in told}
    return list(distinct.values())


def unknown_there(supported: Iterable[tuple[str, str]]) -> Answer:
    """The answer where a person has none of the identifiers that a recipient supports: what it would have needed."""
    return Answer("unsupported", detail=f"knows the person by none of: {kinds_of(supported)}")


def kinds_of(supported: Iterable[tuple[str, str]]) -> str:
    """The types of identifiers, in words."""
    return ", ".join(sorted({kind for kind, _ in supported})) or "nothing"


def hashed(kind: str, value: str, form: str) -> str:
    """Hex digest of a raw identifier. E-mail addresses are hashed trimmed and in lower case, as senders and receivers
    of hashes agree to."""
    normal = value.strip().lower() if kind == "email" else value.strip()
    return hashlib.new(form, normal.encode(), usedforsecurity=False).hexdigest()
