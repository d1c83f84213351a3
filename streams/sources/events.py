"""The three input events at the edge: which values each takes, and how they are checked.

Values carry no identifier and no personal contents: this module refuses what does not look like a name or a key,
and its messages never quote a value. It holds for mappings and for the producer client alike.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from streams.identities import Identity
from streams.topics import CONSENT, SHARING, TELEMETRY

MAX_TEXT = 256
MAX_NAMES = 1_000
EARLIEST_MS = 0
LATEST_MS = 4_102_444_800_000  # 2100-01-01

_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)
_CATEGORY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Encodings and checks are remembered by value; a source with endless distinct values must not fill the memory.
REMEMBERED = 50_000


class Refused(Exception):
    """A row or a call that cannot become an event. The text says why and quotes no content."""


class Mapped(NamedTuple):
    """One event, ready to be sealed off from its user id and encoded.

    `topic`: telemetry, consent or sharing. Times in ms since 1970 UTC. `values`: the rest of the contract's fields,
    in its order, checked.
    """

    topic: str
    user_id: str
    identities: tuple[Identity, ...]
    event_id: bytes
    occurred_at: int
    collected_at: int | None
    values: tuple[Any, ...]

    def record(self) -> dict[str, Any]:
        """The event under the names of its contract."""
        kind = EVENTS[self.topic]
        head: dict[str, Any] = {"event_id": self.event_id, "occurred_at": self.occurred_at}
        if kind.has_collected_at:
            head["collected_at"] = self.collected_at
        return head | dict(zip(kind.fields, self.values, strict=True))


def as_text(value: Any) -> str | None:
    """Text or a whole number as text; nothing for null and empty text."""
    if type(value) is str:
        return value or None
    if value is None:
        return None
    if type(value) is int:
        return str(value)
    raise Refused("is not text")


def as_names(value: Any) -> tuple[str, ...]:
    """A list of texts (or one text), each once."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not all(type(item) is str for item in value):
        raise Refused("is not a list of texts")
    return tuple(dict.fromkeys(value))


def as_whole_number(value: Any) -> int | None:
    """A whole number, also written as text."""
    if value is None or value == "":
        return None
    if type(value) is int:
        return value
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    raise Refused("is not a whole number")


def as_boolean(value: Any) -> bool | None:
    """True or false, also written as text."""
    if value is None or value == "":
        return None
    if type(value) is bool:
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise Refused("is not true or false")


def _text(value: str | None) -> None:
    if value is not None:
        if len(value) > MAX_TEXT:
            raise Refused(f"is longer than {MAX_TEXT} characters")
        if _CONTROL.search(value):
            raise Refused("has control characters")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused("is not valid Unicode") from None


def _country(value: str | None) -> None:
    if value is not None and not _COUNTRY.fullmatch(value):
        raise Refused("is not a country code of two capital letters")


def _names(value: tuple[str, ...]) -> None:
    if len(value) > MAX_NAMES:
        raise Refused(f"has more than {MAX_NAMES} entries")
    for item in value:
        if not item:
            raise Refused("has an empty entry")
        _text(item)


def _categories(value: tuple[str, ...]) -> None:
    _names(value)
    if not all(_CATEGORY.fullmatch(item) for item in value):
        raise Refused("has an entry that is no data category key, such as user.device.ip_address")


def _consent_categories(value: tuple[str, ...]) -> None:
    if value != ("*",):
        _categories(value)


def _positive(value: int | None) -> None:
    if value is not None and not 0 < value < 1 << 63:
        raise Refused("is not a positive whole number")


def _one_of(*choices: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value is not None and value not in choices:
            raise Refused(f"is none of {', '.join(choices)}")

    return check


def _anything(_value: Any) -> None:
    pass


@dataclass(frozen=True)
class Field:
    """One field of an event: `coerce` brings a given value to its type, `check` refuses what is not allowed."""

    coerce: Callable[[Any], Any] = as_text
    check: Callable[[Any], None] = _text
    required: bool = False
    default: Any = None


@dataclass(frozen=True)
class Event:
    """One input event: its contract, its fields behind the head (`event_id`, `occurred_at`, `collected_at`)."""

    contract: str
    fields: Mapping[str, Field]
    has_collected_at: bool = False
    check_whole: Callable[[dict[str, Any]], None] = _anything


_NAMES = Field(as_names, _names, default=())
_CATEGORIES = Field(as_names, _categories, default=())
_COUNTRY_FIELD = Field(as_text, _country)
_SOURCE = Field(default="")

_NEEDS = {
    "accept": ("version",),
    "leave": (),
    "age": ("band",),
    "guardian": ("granted",),
    "grant": ("activity", "purpose"),
    "withdraw": ("activity", "purpose"),
}


def _check_consent(values: dict[str, Any]) -> None:
    action = values["action"]
    for name in _NEEDS[action]:
        if values[name] is None:
            raise Refused(f"`{name}` is missing: the action {action} needs it")
    if action not in ("grant", "withdraw"):
        return
    activity = values["activity"]
    if activity in ("share", "transfer") and values["recipient"] is None:
        raise Refused(f"`recipient` is missing: to {action} {activity} needs it (an id, kind:K, or *)")
    if activity != "use" and not values["categories"]:
        raise Refused(f"`categories` is missing: to {action} {activity} needs it (a list, or *)")


EVENTS: dict[str, Event] = {
    TELEMETRY: Event(
        "TelemetryCollected",
        {
            "event_type": Field(required=True),
            "purpose": Field(),
            "categories": _CATEGORIES,
            "fields": _NAMES,
            "region": _COUNTRY_FIELD,
            "storage_country": _COUNTRY_FIELD,
            "source": _SOURCE,
        },
    ),
    SHARING: Event(
        "DataShared",
        {
            "activity": Field(as_text, _one_of("share", "transfer", "publish"), required=True),
            "discloser": Field(default="self"),
            "recipient": Field(),
            "purpose": Field(),
            "categories": _CATEGORIES,
            "region": _COUNTRY_FIELD,
            "order": Field(),
            "source": _SOURCE,
        },
        has_collected_at=True,
    ),
    CONSENT: Event(
        "ConsentChanged",
        {
            "action": Field(as_text, _one_of(*_NEEDS), required=True),
            "version": Field(as_whole_number, _positive),
            "band": Field(as_text, _one_of("under_14", "14_17", "adult")),
            "granted": Field(as_boolean, _anything),
            "activity": Field(as_text, _one_of("use", "share", "transfer", "publish")),
            "purpose": Field(),
            "recipient": Field(),
            "categories": Field(as_names, _consent_categories, default=()),
            "source": _SOURCE,
        },
        check_whole=_check_consent,
    ),
}


def refuse_personal(topic: str, values: tuple[Any, ...], user_id: str, identities: Sequence[Identity]) -> None:
    """Raises `Refused` when a value (other than `source`) is an identifier of the person: a path that points to the
    wrong place would carry it into a log that is kept for ever."""
    for personal in (user_id, *(identity.identity_value for identity in identities)):
        # Nearly always nothing is found: names are looked for only then.
        if personal in values or any(personal in value for value in values if type(value) is tuple):
            for name, value in zip(EVENTS[topic].fields, values, strict=True):
                if name != "source" and (personal == value or (type(value) is tuple and personal in value)):
                    raise Refused(f"`{name}` holds an identifier of the person")


def check_time(ms: int, name: str = "occurred_at") -> int:
    """The time itself. Raises `Refused` outside 1970 to 2099."""
    if not EARLIEST_MS <= ms < LATEST_MS:
        raise Refused(f"`{name}` is out of range: 1970 to 2099")
    return ms


class Checker:
    """Checks the coerced values of one kind of event, and remembers what it found for values seen before."""

    def __init__(self, topic: str) -> None:
        self._event = EVENTS[topic]
        self._known: dict[tuple[Any, ...], tuple[Any, ...] | str] = {}

    def checked(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values with defaults in the place of nothing. Raises `Refused`."""
        known = self._known.get(values)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            try:
                known = self._check(values)
            except Refused as refused:
                known = str(refused)
            self._known[values] = known
        if isinstance(known, str):
            raise Refused(known)
        return known

    def _check(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        named: dict[str, Any] = {}
        for (name, field), value in zip(self._event.fields.items(), values, strict=True):
            if value is None and field.required:
                raise Refused(f"`{name}` is missing")
            try:
                field.check(value)
            except Refused as refused:
                raise Refused(f"`{name}` {refused}") from None
            named[name] = field.default if value is None else value
        self._event.check_whole(named)
        return tuple(named.values())
