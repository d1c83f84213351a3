"""Which simulated recipient speaks which protocol: by weights, and by name where somebody knows better. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PROTOCOLS = ("opendsr", "ddrf", "http", "kafka", "manual")
DEFAULT_MIX = "opendsr=4,http=2,ddrf=1,kafka=1,manual=1"
# Nobody sends them a command: a controller answers for them by itself.
_UNASKED = frozenset({"authority", "public"})


class MixError(ValueError):
    """The mix cannot be read; the text says what to write."""


def spread(registry: Iterable[Mapping[str, object]], mix: str = DEFAULT_MIX) -> dict[str, str]:
    """Recipient id → protocol, of `RecipientRegistered` records, in their order.

    `mix`: `PROTOCOL=WEIGHT` and `RECIPIENT=PROTOCOL`, separated by commas. Authorities and public places are left out
    unless named. The same arguments always give the same answer. Raises `MixError`.
    """
    kinds = {str(entry["id"]): str(entry["kind"]) for entry in registry}
    weights, pinned = _read(mix, kinds)
    # Smooth weighted round robin: the protocols take turns as evenly as their weights allow.
    credit = dict.fromkeys(weights, 0)
    found: dict[str, str] = {}
    for name, kind in kinds.items():
        if name in pinned:
            found[name] = pinned[name]
        elif kind not in _UNASKED and weights:
            for protocol, weight in weights.items():
                credit[protocol] += weight
            chosen = max(credit, key=lambda protocol: credit[protocol])
            credit[chosen] -= sum(weights.values())
            found[name] = chosen
    return found


def _read(mix: str, kinds: Mapping[str, str]) -> tuple[dict[str, int], dict[str, str]]:
    weights: dict[str, int] = {}
    pinned: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in mix.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if equals and name in PROTOCOLS and value.isdecimal():
            if int(value):
                weights[name] = int(value)
        elif equals and name in kinds and value in PROTOCOLS:
            pinned[name] = value
        else:
            raise MixError(
                f"{part!r} is neither PROTOCOL=WEIGHT nor RECIPIENT=PROTOCOL; protocols: {', '.join(PROTOCOLS)}; "
                f"recipients: {', '.join(kinds)}"
            )
    return weights, pinned
