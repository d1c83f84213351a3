"""What may happen to a person in the simulator: the shapes of events that the policies and the registry allow.

Everything is derived from the policy and recipient records, so that any policy can be simulated; names that are
usual in apps (app_open, ip, …) are weighted like in apps. Nothing here depends on a person or a moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.policies import covers

Record = Mapping[str, Any]

VARIANTS = 4
_FOREVER = 2**62

# How often an event type occurs beside the others, of those that apps usually have; any other: 0.05.
_WEIGHTS = {
    "screen_view": 30.0,
    "track": 8.0,
    "feature_used": 6.0,
    "ad_impression": 10.0,
    "ad_request": 4.0,
    "recommendation_view": 6.0,
    "news_view": 4.0,
    "upload_photo": 4.0,
    "push_received": 3.0,
    "login": 2.0,
    "search": 2.0,
    "performance": 2.0,
    "session_end": 4.0,
    "ad_click": 0.7,
    "push_opened": 0.6,
    "purchase": 0.4,
    "crash": 0.3,
    "nearby_view": 4.0,
}
_OPENERS = ("app_open", "session_start", "application_opened")

_CONTEXT = ("timestamp", "app_version", "platform", "os_version", "device_id", "ip")
_OPTIONAL = ("model", "manufacturer", "locale", "timezone", "network_type", "session_id", "channel", "isp")
_EXTRAS: Mapping[str, tuple[str, ...]] = {
    "app_open": ("session_start", "device_model", "imei"),
    "session_end": ("session_stop", "session_duration"),
    "screen_view": ("screen_name",),
    "upload_photo": ("photo", "file_name"),
    "purchase": ("order_id", "price", "currency", "payment_method"),
    "subscribe": ("plan", "payment_method"),
    "login": ("user_id", "login_token", "mac"),
    "identify": ("user_id", "email", "name"),
    "feedback": ("feedback", "email"),
    "crash": ("stack_trace", "cpu", "memory", "battery", "disk"),
    "performance": ("cpu", "memory", "battery"),
    "push_received": ("push_token",),
    "ad_request": ("advertising_id", "user_agent"),
    "ad_impression": ("ad_id", "campaign", "advertising_id"),
    "ad_click": ("ad_id", "campaign", "advertising_id"),
    "nearby_view": ("latitude", "longitude"),
}
_PURPOSE_WEIGHTS = {"development": 4.0, "push": 3.0, "ad_recommendation": 3.0, "ad_measurement": 3.0}


@dataclass(frozen=True)
class Offer:
    """One disclosure that the registry allows between two moments (ms): what may go to whom, and for what."""

    recipient: str
    kind: str
    purpose: str
    categories: list[str]
    begin: int
    end: int
    weight: float
    onward: list["Offer"] = field(default_factory=list)


@dataclass(frozen=True)
class Catalogue:
    """The policies in the order in which they take effect, and all that events are made of."""

    versions: list[int]
    effective: list[int]
    opt_outs: list[str]
    explicit: dict[str, int]
    foreign_purpose: str
    """A purpose that no policy has, which some people grant."""
    restricted: dict[str, list[str]]
    """Region to the countries where its data may be, by the last policy."""
    types: list[str]
    purposes: list[str]
    """The purpose of each event type."""
    weights: npt.NDArray[np.float64]
    """Cumulative share of each event type under each policy: (policies, types)."""
    opener: int
    shapes: list[dict[str, Any]]
    """Event keys, by (event type × 2 + on iOS) × VARIANTS + variant."""
    offers: list[Offer]
    abroad: list[Offer]
    """Offers by recipients in a country where restricted data may not be."""
    grants: list[tuple[dict[str, Any], float]]
    """Grants of disclosures, with the share of people who give them."""
    recipients: Sequence[Record]

    def storage(self, region: str | None) -> str:
        """The country where the app stores what it collects in a region."""
        allowed = self.restricted.get(region or "") or next(iter(self.restricted.values()), None)
        return allowed[0] if allowed else (region or "CN")

    def of_kind(self, kind: str, at: int) -> list[Record]:
        """The recipients of that kind registered at a moment."""
        return [r for r in self.recipients if r["kind"] == kind and r["effective_at"] <= at]


def draw_catalogue(rng: np.random.Generator, policies: Sequence[Record], recipients: Sequence[Record]) -> Catalogue:
    """The catalogue of `PolicyPublished` and `RecipientRegistered` records. Raises `ValueError` without a policy
    that maps any event type."""
    ordered = sorted(policies, key=lambda policy: (policy["effective_at"], policy["version"]))
    if not any(policy["events"] for policy in ordered):
        raise ValueError("nothing to simulate: give at least one policy that maps event types to purposes")
    last = ordered[-1]
    types: dict[str, Record] = {}
    for policy in ordered:
        for event_type, purpose in policy["events"].items():
            if purpose in policy["purposes"]:
                types.setdefault(event_type, policy)
    names = list(types)
    weights = np.array(
        [[_WEIGHTS.get(name, 0.05) * (name in policy["events"]) for name in names] for policy in ordered]
    )
    shapes = [
        _shape(rng, name, types[name], bool(ios), variant)
        for name in names
        for ios in range(2)
        for variant in range(VARIANTS)
    ]
    rules = {purpose: rule for policy in ordered for purpose, rule in policy["purposes"].items()}
    explicit = {
        purpose: min(policy["effective_at"] for policy in ordered if purpose in policy["purposes"])
        for purpose, rule in rules.items()
        if rule["basis"] == "explicit_consent"
    }
    offers, abroad = _offers(rng, last, recipients)
    return Catalogue(
        [policy["version"] for policy in ordered],
        [policy["effective_at"] for policy in ordered],
        [purpose for purpose, rule in rules.items() if rule["basis"] == "opt_out"],
        explicit,
        next(name for name in ("user_research", "outside_purpose") if name not in rules),
        dict(last["residency"]),
        names,
        [types[name]["events"][name] for name in names],
        np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1),
        next((names.index(name) for name in _OPENERS if name in types), 0),
        shapes,
        offers,
        abroad,
        _grants(last, offers),
        sorted(recipients, key=lambda entry: entry["effective_at"]),
    )


def _shape(rng: np.random.Generator, event_type: str, policy: Record, ios: bool, variant: int) -> dict[str, Any]:
    """An event's own keys. Variant 2 states its purpose, variant 3 its categories instead of fields."""
    fields = policy["fields"]
    purpose = policy["events"][event_type]
    needs = policy["purposes"][purpose]["needs"]
    usable = [name for name, category in fields.items() if covers(needs, [category])]
    extras = [name.replace("advertising_id", "idfa" if ios else "gaid") for name in _EXTRAS.get(event_type, ())]
    chosen = [*_CONTEXT, *rng.permutation(_OPTIONAL)[: rng.integers(1, 5)].tolist(), *extras]
    chosen = [name for name in dict.fromkeys(chosen) if name in usable and not (ios and name == "imei")]
    if not chosen:
        chosen = usable[:3]
    stated = variant == VARIANTS - 1
    categories = sorted({fields[name] for name in (extras or chosen) if name in usable})
    return {
        "event_type": event_type,
        "purpose": purpose if variant == 2 else None,
        "categories": categories if stated and categories else [],
        "fields": [] if stated and categories else chosen,
        "source": "backend" if stated else "ios-app" if ios else "android-app",
    }


def _offers(rng: np.random.Generator, policy: Record, recipients: Sequence[Record]) -> tuple[list[Offer], list[Offer]]:
    entries: dict[str, list[Record]] = {}
    for entry in sorted(recipients, key=lambda entry: entry["effective_at"]):
        entries.setdefault(entry["id"], []).append(entry)
    known = sorted(set(policy["fields"].values()))
    home: list[Offer] = []
    abroad: list[Offer] = []
    by_recipient: dict[str, list[Offer]] = {}
    for versions in entries.values():
        for entry, following in zip(versions, [*versions[1:], None], strict=True):
            if entry["kind"] not in ("affiliate", "partner"):
                continue
            begin = max(entry["effective_at"], entry["contract_from"] or 0)
            end = min(following["effective_at"] if following else _FOREVER, entry["contract_until"] or _FOREVER)
            lawful = all(entry["country"] in countries for countries in policy["residency"].values())
            for purpose in entry["purposes"]:
                if purpose not in policy["purposes"]:
                    continue
                needs = policy["purposes"][purpose]["needs"]
                usable = [c for c in known if covers(needs, [c]) and covers(entry["categories"], [c])]
                for _ in range(3 if usable else 0):
                    size = min(len(usable), int(rng.integers(1, 5)))
                    chosen = sorted(rng.permutation(usable)[:size].tolist())
                    weight = _PURPOSE_WEIGHTS.get(purpose, 1.0)
                    offer = Offer(entry["id"], entry["kind"], purpose, chosen, begin, end, weight)
                    (home if lawful else abroad).append(offer)
                    by_recipient.setdefault(entry["id"], []).append(offer)
    _link_onward(home, entries)
    return home, abroad


def _link_onward(offers: list[Offer], entries: Mapping[str, list[Record]]) -> None:
    """Each offer, to the offers by which its recipient may pass the data on."""
    for offer in offers:
        discloser = entries[offer.recipient][-1]
        offer.onward.extend(
            other
            for other in offers
            if other.recipient != offer.recipient
            and (other.recipient in discloser["onward"] or f"kind:{other.kind}" in discloser["onward"])
            and other.purpose in discloser["purposes"]
            and covers(discloser["categories"], other.categories)
        )


def _grants(policy: Record, offers: Sequence[Offer]) -> list[tuple[dict[str, Any], float]]:
    """Grants that go beyond what the registry allows anyway: else nothing would rest on them."""
    shown = [category for category in ("user.content", "user.name") if covers(policy["categories"], [category])]
    shown = shown or list(policy["categories"][:1])
    everything = {"action": "grant", "activity": "publish", "purpose": "*", "categories": shown}
    grants: list[tuple[dict[str, Any], float]] = [(everything, 0.03)]
    for offer in {offer.recipient: offer for offer in offers}.values():
        own = {other.purpose for other in offers if other.recipient == offer.recipient}
        more = [purpose for purpose in policy["purposes"] if purpose not in own]
        if not more:
            continue
        form = {"action": "grant", "purpose": more[0], "recipient": offer.recipient, "categories": shown}
        grants.append((form | {"activity": "share"}, 0.01))
        if offer.kind == "affiliate":
            grants.append((form | {"activity": "transfer", "purpose": "*"}, 0.005))
    return grants
