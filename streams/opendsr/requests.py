"""Reading what an OpenDSR client asks for (OpenDSR 2.0, section 7.1): checked whole, every problem told at once.

Pure. What is told of a problem names the field and never quotes what stood in it: it may be an identifier.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import orjson

from streams.identities import IDENTITY_FORMATS, IDENTITY_TYPES, Identity, names_nobody

API_VERSION = "2.0"
SUPPORTED_TYPES = ("erasure",)
KNOWN_TYPES = ("erasure", "portability", "access")
# OpenDSR has the first two; pipl is ours.
REGULATIONS = ("gdpr", "ccpa", "pipl")
USER_ID = ("controller_customer_id", "raw")
MOST_IDENTITIES = 50
MOST_CALLBACKS = 5
LONGEST_VALUE = 1024
LONGEST_URL = 2048

# Section 1.1: lowercase, version 4.
_REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
# RFC 3339, section 5.6.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
# Names that lead nowhere in the public network (RFC 6761, RFC 6762, RFC 8375), and what many networks use alike.
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test", ".invalid", ".onion")
# With these types an all-zero value stands for a device that may not be tracked: it names nobody.
_MAY_BE_ZERO = frozenset(IDENTITY_TYPES) - {"controller_customer_id", "email"}


class Problem(NamedTuple):
    """One thing wrong: `reason` is a stable word (missing, invalid, unsupported, conflict)."""

    reason: str
    message: str


class BadRequest(Exception):
    """A request that cannot be taken; OpenDSR answers it with 400."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(problems[0].message)
        self.problems = problems


@dataclass(frozen=True)
class Order:
    """A request to erase one person. `digest`: SHA-256 of all that was read, to tell a repetition from another one."""

    request_id: UUID
    regulation: str
    callback_urls: tuple[str, ...]
    user_id: str = field(repr=False)
    identities: tuple[Identity, ...] = field(repr=False)
    digest: bytes = field(repr=False)


def request_id_of(text: object) -> UUID | None:
    """A `subject_request_id`, else None."""
    return UUID(text) if isinstance(text, str) and _REQUEST_ID.fullmatch(text) else None


def read_request(body: bytes, *, domain: str, regulation_default: str = "", allow_private: bool = False) -> Order:
    """The order in the body of a POST. Unknown fields and other processors' extensions are ignored.

    `domain`: ours, the key of the extension that is read: its `identities` count as `subject_identities` do.
    `regulation_default`: of requests that name none; empty: they are refused, as the specification has it.
    `allow_private`: callbacks may go to private networks and without TLS. Raises `BadRequest`.
    """
    try:
        given = orjson.loads(body)
    except ValueError as error:
        # Only the place, which orjson tells at the end.
        where = re.search(r"line \d+ column \d+", str(error))
        raise BadRequest(Problem("invalid", f"the body is not JSON{f': {where[0]}' if where else ''}")) from None
    if not isinstance(given, dict):
        raise BadRequest(Problem("invalid", "the body must be a JSON object"))
    reader = _Reader(given)
    request_id = reader.request_id()
    reader.request_type()
    submitted = reader.submitted_time()
    regulation = reader.regulation(regulation_default)
    reader.api_version()
    user_id, identities = reader.identities(domain)
    urls = reader.callback_urls(allow_private)
    if reader.problems:
        raise BadRequest(*reader.problems)
    assert request_id is not None
    content = orjson.dumps([regulation, submitted, user_id, sorted(map(list, identities)), urls])
    return Order(request_id, regulation, urls, user_id, identities, hashlib.sha256(content).digest())


def private_host(host: str) -> bool:
    """Whether a host, as it stands in a URL, is for certain not in the public network.

    Names are not looked up: what they lead to may be another thing when it is called, and is checked then.
    """
    name = host.rstrip(".").lower()
    try:
        # All the forms that a resolver takes for an IPv4 address: 127.1, 0x7f000001, 2130706433.
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(socket.inet_aton(name))
    except (OSError, UnicodeEncodeError):
        try:
            address = ipaddress.IPv6Address(name.partition("%")[0])
        except ValueError:
            return "." not in name or name.endswith(_PRIVATE_SUFFIXES)
        address = address.ipv4_mapped or address
    return not address.is_global or address.is_multicast


class _Reader:
    """Collects problems: a client mends all of them at once."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self.problems: list[Problem] = []

    def _problem(self, reason: str, message: str) -> None:
        self.problems.append(Problem(reason, message))

    def _text(self, name: str) -> str | None:
        """A required text."""
        value = self._given.get(name)
        if value is None or value == "":
            self._problem("missing", f"{name} field is required")
            return None
        if not isinstance(value, str):
            self._problem("invalid", f"{name} must be a string")
            return None
        return value

    def request_id(self) -> UUID | None:
        text = self._text("subject_request_id")
        found = request_id_of(text)
        if text is not None and found is None:
            self._problem("invalid", "subject_request_id must be a UUID of version 4 in lower case")
        return found

    def request_type(self) -> None:
        text = self._text("subject_request_type")
        if text is None or text in SUPPORTED_TYPES:
            return
        if text in KNOWN_TYPES:
            self._problem("unsupported", f"subject_request_type must be one of: {', '.join(SUPPORTED_TYPES)}")
        else:
            self._problem("invalid", f"subject_request_type must be one of: {', '.join(KNOWN_TYPES)}")

    def submitted_time(self) -> str:
        text = self._text("submitted_time")
        if text is None:
            return ""
        try:
            if not _TIME.fullmatch(text):
                raise ValueError
            # A leap second is in the form's range and in no calendar of Python's.
            datetime.fromisoformat(re.sub(r"\.\d+", "", text.upper()).replace(":60", ":59"))
        except ValueError:
            self._problem("invalid", "submitted_time must be an RFC 3339 time such as 2018-10-02T15:00:00Z")
        return text

    def regulation(self, default: str) -> str:
        if default and self._given.get("regulation") is None:
            return default
        text = self._text("regulation")
        if text is not None and text not in REGULATIONS:
            self._problem("invalid", f"regulation must be one of: {', '.join(REGULATIONS)}")
        return text or ""

    def api_version(self) -> None:
        version = self._given.get("api_version")
        if version is None:
            return
        if not isinstance(version, str):
            self._problem("invalid", "api_version must be a string")
        elif not re.fullmatch(r"2(\.\d+){0,2}", version, re.ASCII):
            self._problem("unsupported", f"api_version must be {API_VERSION}")

    def identities(self, domain: str) -> tuple[str, tuple[Identity, ...]]:
        """The user id, and what was given along."""
        found = self._identity_list(self._given.get("subject_identities"), "subject_identities")
        extensions = self._given.get("extensions")
        if extensions is not None and not isinstance(extensions, dict):
            self._problem("invalid", "extensions must be an object")
        elif extensions and extensions.get(domain) is not None:
            ours = extensions[domain]
            if isinstance(ours, dict):
                found += self._identity_list(ours.get("identities"), f"extensions[{domain}].identities")
            else:
                self._problem("invalid", f"extensions[{domain}] must be an object")
        if not found:
            if not any("identit" in problem.message for problem in self.problems):
                self._problem("missing", "subject_identities field is required")
            return "", ()
        users = {each.identity_value for each in found if each[:2] == USER_ID}
        if len(users) > 1:
            self._problem("invalid", "one request is about one person: it names several of controller_customer_id")
        elif not users:
            self._problem(
                "unsupported",
                "a person is found by the identity controller_customer_id in the format raw, which is missing; other "
                "identities may be given along with it",
            )
        others = dict.fromkeys(
            each
            for each in found
            if each[:2] != USER_ID and not (each.identity_type in _MAY_BE_ZERO and names_nobody(each.identity_value))
        )
        return next(iter(users), ""), tuple(others)

    def _identity_list(self, values: Any, where: str) -> list[Identity]:
        if values is None:
            return []
        if not isinstance(values, list) or len(values) > MOST_IDENTITIES:
            self._problem("invalid", f"{where} must be an array of at most {MOST_IDENTITIES} identities")
            return []
        return [found for at, value in enumerate(values) if (found := self._identity(value, f"{where}[{at}]"))]

    def _identity(self, value: Any, where: str) -> Identity | None:
        if not isinstance(value, dict):
            self._problem("invalid", f"{where} must be an object")
            return None
        problems = len(self.problems)
        kind, form, content = (value.get(name) for name in Identity._fields)
        if kind not in IDENTITY_TYPES:
            self._problem("invalid", f"{where}.identity_type must be one of: {', '.join(IDENTITY_TYPES)}")
        if form not in IDENTITY_FORMATS:
            self._problem("invalid", f"{where}.identity_format must be one of: {', '.join(IDENTITY_FORMATS)}")
        if not isinstance(content, str) or not content.strip() or len(content) > LONGEST_VALUE:
            self._problem("invalid", f"{where}.identity_value must be text of at most {LONGEST_VALUE} characters")
        if len(self.problems) > problems:
            return None
        return Identity(str(kind), str(form), str(content))

    def callback_urls(self, allow_private: bool) -> tuple[str, ...]:
        values = self._given.get("status_callback_urls")
        if values is None:
            return ()
        if not isinstance(values, list) or len(values) > MOST_CALLBACKS:
            self._problem("invalid", f"status_callback_urls must be an array of at most {MOST_CALLBACKS} URLs")
            return ()
        for at, value in enumerate(values):
            if wrong := _wrong_with(value, allow_private):
                self._problem("invalid", f"status_callback_urls[{at}] {wrong}")
        return () if self.problems else tuple(dict.fromkeys(values))


def _wrong_with(url: Any, allow_private: bool) -> str | None:
    """What is wrong with a callback URL, else None."""
    if not isinstance(url, str) or len(url) > LONGEST_URL or re.search(r"[\x00-\x20\x7f\\]", url):
        return f"must be a URL of at most {LONGEST_URL} characters"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        return "must be an https URL"
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        return "must name a host, and neither a user nor a fragment"
    if not allow_private and private_host(parts.hostname):
        return "must not lead into a private network"
    return None
