"""What goes wrong in real systems: each fault turns a lawful event into one that a clause has something against.

A fault changes an event in place and shares no list with the event's shape, which others use too.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from infra.simulator.catalogue import Catalogue, Record
from streams.documents import format_instant, parse_instant
from streams.policies import covers

Event = dict[str, Any]
Fault = Callable[[random.Random, Event, Catalogue], None]

DAY = 86_400_000

BEYOND_POLICY = ("contacts_list", "clipboard", "sms_log", "call_log", "installed_apps", "heart_rate")
"""Names of fields that no policy here has."""
OUTSIDE = ("resale", "credit_scoring", "staff_training_data")
"""Purposes that no policy here has."""
UNKNOWN_RECIPIENTS = ("quickstats", "mobi-tracker", "adnet-77", "widget-cdn")
_FOREIGN = ("US", "IE", "SG", "JP")
_BEYOND_NEED = ("user.biometric.fingerprint", "user.health_and_medical", "user.content.private", "user.contact")


def unknown_field(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """1: a field is collected that the policy does not name."""
    event["fields"] = [*event["fields"], rng.choice(BEYOND_POLICY)]


def outside_purpose(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """2: a purpose that the policy does not have."""
    event["purpose"] = rng.choice(OUTSIDE)


def unknown_event(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """2, gap: an event type that nobody has described."""
    event["event_type"] = f"legacy_event_{rng.randrange(20)}"
    event["purpose"] = None


def stored_abroad(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """4.1: stored in another country."""
    event["storage_country"] = rng.choice(_FOREIGN)


def region_lost(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """4.1, gap: nobody knows where it was collected."""
    event["region"] = None


def nothing_stated(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """1, gap: nobody says what was collected."""
    event["fields"], event["categories"] = [], []


def unknown_recipient(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """3.1, gap: a recipient that nobody has registered."""
    event["recipient"] = rng.choice(UNKNOWN_RECIPIENTS)


def beyond_need(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """3.1(3), 3.1(4): more than the purpose needs, or than the recipient may have."""
    more = [category for category in _BEYOND_NEED if not covers(event["categories"], [category])]
    event["categories"] = [*event["categories"], rng.choice(more)]


def sent_abroad(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """4.1: a recipient who stores elsewhere."""
    if catalogue.abroad:
        offer = rng.choice(catalogue.abroad)
        event["recipient"], event["purpose"], event["categories"] = offer.recipient, offer.purpose, offer.categories


def too_old(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """4.2: data that should have been deleted."""
    at = parse_instant(event["occurred_at"])
    event["collected_at"] = format_instant(at - rng.randrange(400 * DAY, 1200 * DAY))


def clock_wrong(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """4.2, gap: collected after it was disclosed, says a wrong clock."""
    event["collected_at"] = format_instant(parse_instant(event["occurred_at"]) + rng.randrange(DAY))


def contract_over(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """3.1(4): a partner whose contract has ended, or 3.1(3), 3.1(4): another purpose than its own."""
    at = parse_instant(event["occurred_at"])
    ended = [offer for offer in catalogue.offers if offer.end <= at]
    if ended:
        offer = rng.choice(ended)
        event["recipient"], event["purpose"], event["categories"] = offer.recipient, offer.purpose, offer.categories
    else:
        outside_purpose(rng, event, catalogue)


def purpose_lost(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """2, gap: nobody says what for."""
    event["purpose"] = None


def wrong_kind(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """3.1, 3.1(2): to a successor or the public, or to an authority without an order."""
    at = parse_instant(event["occurred_at"])
    found = [entry for kind in ("authority", "successor", "public") for entry in catalogue.of_kind(kind, at)]
    _send(rng, event, found)


def strange_discloser(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """3.1, 3.1(4): passed on by one who may not."""
    others = [offer.recipient for offer in catalogue.offers if offer.recipient != event["recipient"]]
    event["discloser"] = rng.choice([*UNKNOWN_RECIPIENTS, *others])


def transferred(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """3.2: handed over for good, without a ground."""
    event["activity"] = "transfer"


def published(rng: random.Random, event: Event, catalogue: Catalogue) -> None:
    """3.3(1): published without consent."""
    event["activity"], event["recipient"] = "publish", None


COLLECTION_FAULTS: Sequence[Fault] = (
    unknown_field,
    unknown_field,
    outside_purpose,
    unknown_event,
    stored_abroad,
    region_lost,
    nothing_stated,
)
DISCLOSURE_FAULTS: Sequence[Fault] = (
    unknown_recipient,
    unknown_recipient,
    beyond_need,
    beyond_need,
    sent_abroad,
    too_old,
    clock_wrong,
    contract_over,
    contract_over,
    purpose_lost,
    wrong_kind,
    strange_discloser,
    transferred,
    published,
)
"""Each as often as it stands here."""

POISON: Sequence[dict[str, Any]] = (
    {"occurred_at": "yesterday"},
    {"event_id": "not-a-uuid"},
    {"user_id": None},
    {"topic": "unknown-topic"},
    {"categories": {"user": 1}},
    {"occurred_at": None},
)
"""Keys that make an event one that no mapping can take."""


def _send(rng: random.Random, event: Event, recipients: Sequence[Record]) -> None:
    if recipients:
        event["recipient"] = rng.choice(recipients)["id"]
