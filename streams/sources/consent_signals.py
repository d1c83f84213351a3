"""From a standard consent string to consent facts: which policy purposes are granted or withdrawn, and for which
vendors. The choices that are made here are explained in docs/consent-signals.md.

Pure: a rule's `signal` is compiled to a function of a row. A signal says what holds now, so each of its facts is
written every time, granted or withdrawn.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from streams.documents import KeyPath, parse_instant
from streams.sources.events import Refused
from streams.sources.expressions import Row, first_of, words
from streams.sources.gpp import OptOut, decode_gpp
from streams.sources.tcf import Restriction, SignalError, TcString, decode_tcf

Fact = tuple[Any, ...]
"""The values of a ConsentChanged behind its head, without `source`."""
Signal = Callable[[Row], tuple[Fact, ...]]

MAX_FACTS = 500
_REMEMBERED = 1_024
_ALL = ("*",)
_PARTNERS = "kind:partner"

# TCF v2.3: strings written after 28 February 2026 must say which vendors the person was shown.
_DISCLOSURE_REQUIRED_FROM = parse_instant("2026-03-01T00:00:00Z")
# TCF v2.2 (policy version 4): purposes 3 to 6 need consent. Purpose 1 always did.
_CONSENT_ONLY_POLICY = 4


@dataclass(frozen=True)
class Vendor:
    """A vendor of the mapping: what it declares in the Global Vendor List, and what it may receive."""

    id: int
    recipient: str
    consent: frozenset[int]
    interest: frozenset[int]
    flexible: frozenset[int]
    categories: tuple[str, ...]

    @property
    def declared(self) -> frozenset[int]:
        return self.consent | self.interest


@dataclass(frozen=True)
class TcfRules:
    """`purposes`: policy purpose to the TCF purposes that it needs, all of them. `own_interest`: TCF purposes that the
    publisher itself rests on legitimate interest. `special`: data categories that need a special feature's opt-in."""

    purposes: Mapping[str, tuple[int, ...]]
    own_interest: frozenset[int]
    from_publisher_segment: bool
    vendors: tuple[Vendor, ...]
    special: Mapping[int, tuple[str, ...]]
    least_policy_version: int

    def facts(self, tc: TcString) -> Iterator[Fact]:
        """Raises `SignalError` for a string that is not valid any more, or was never."""
        if tc.policy_version < self.least_policy_version:
            raise SignalError("of a policy version older than the mapping takes")
        if tc.disclosed is None and tc.updated >= _DISCLOSURE_REQUIRED_FROM:
            raise SignalError("does not say which vendors were disclosed, as TCF v2.3 requires")
        for purpose, needs in self.purposes.items():
            yield _use(all(self._own(tc, need) for need in needs), purpose)
        refused = tuple(
            category
            for feature, categories in self.special.items()
            if feature not in tc.special_features
            for category in categories
        )
        for vendor in self.vendors:
            for purpose, needs in self.purposes.items():
                asked = vendor.declared.intersection(needs)
                if asked:
                    yield from self._share(vendor, purpose, all(permits(tc, vendor, need) for need in asked), refused)

    def _own(self, tc: TcString, need: int) -> bool:
        consents, interests = tc.purposes, tc.purposes_interest
        if self.from_publisher_segment:
            if tc.publisher is None:
                raise SignalError("has no publisher segment")
            consents, interests = tc.publisher.purposes, tc.publisher.purposes_interest
        return need in consents or (need in self.own_interest and need in interests and not _consent_only(tc, need))

    @staticmethod
    def _share(vendor: Vendor, purpose: str, permitted: bool, refused: Sequence[str]) -> Iterator[Fact]:
        granted = tuple(category for category in vendor.categories if category not in refused)
        if not permitted or not granted:
            yield _sharing(False, purpose, vendor.recipient, _ALL)
            return
        yield _sharing(True, purpose, vendor.recipient, granted)
        withheld = tuple(category for category in vendor.categories if category in refused)
        if withheld:
            # An earlier grant may have held them.
            yield _sharing(False, purpose, vendor.recipient, withheld)


def permits(tc: TcString, vendor: Vendor, purpose: int) -> bool:
    """Whether the string lets a vendor process for a TCF purpose, on the basis that it declared or, where it is
    flexible, that the publisher sets."""
    if tc.disclosed is not None and vendor.id not in tc.disclosed:
        return False
    on_consent = purpose in vendor.consent
    for restricted, kind, vendors in tc.restrictions:
        if restricted != purpose or vendor.id not in vendors:
            continue
        wants_consent = kind is Restriction.CONSENT
        if kind is Restriction.NOT_ALLOWED:
            return False
        if wants_consent != (purpose in vendor.consent) and purpose not in vendor.flexible:
            return False
        on_consent = wants_consent
    if on_consent:
        return purpose in tc.purposes and vendor.id in tc.vendors
    return not _consent_only(tc, purpose) and purpose in tc.purposes_interest and vendor.id in tc.vendors_interest


def _consent_only(tc: TcString, purpose: int) -> bool:
    return purpose == 1 or (tc.policy_version >= _CONSENT_ONLY_POLICY and 3 <= purpose <= 6)


def _use(granted: bool, purpose: str) -> Fact:
    return ("grant" if granted else "withdraw", None, None, None, "use", purpose, None, ())


def _sharing(granted: bool, purpose: str, recipient: str, categories: tuple[str, ...]) -> Fact:
    return ("grant" if granted else "withdraw", None, None, None, "share", purpose, recipient, categories)


def _opt_out_facts(spec: Mapping[str, Sequence[str]], opt_outs: Mapping[str, OptOut]) -> Iterator[Fact]:
    for name, purposes in spec.items():
        value = opt_outs.get(name, OptOut.NOT_APPLICABLE)
        for purpose in purposes:
            if name == "targeted_advertising" and value is not OptOut.NOT_APPLICABLE:
                yield _use(value is OptOut.NOT_OPTED_OUT, purpose)
            elif value is OptOut.OPTED_OUT:
                yield _sharing(False, purpose, _PARTNERS, _ALL)


def compile_signal(spec: Mapping[str, Any], at: KeyPath, wrong: Callable[[KeyPath, str], None]) -> Signal:
    """The function of a rule's `signal`. It raises `Refused` for a row whose string is missing or cannot be read.

    `wrong` is told what is wrong with the specification.
    """
    kind = "gpp" if "gpp" in spec else "tcf"
    if ("gpp" in spec) == ("tcf" in spec):
        wrong(at, "give `tcf` or `gpp`, the path of the string")
        return lambda _row: ()
    if "opt_outs" in spec and kind == "tcf":
        wrong((*at, "opt_outs"), "belongs to `gpp`: a TC string has none")
    if "purposes" not in spec and (kind == "tcf" or "opt_outs" not in spec):
        wrong(at, "give `purposes`: policy purpose to the TCF purposes that it needs")
    rules = _rules(spec, at, wrong)
    opt_outs = spec.get("opt_outs", {})

    def facts_of(text: str) -> Iterator[Fact]:
        if kind == "tcf":
            yield from rules.facts(decode_tcf(text))
            return
        gpp = decode_gpp(text)
        if gpp.tcf is not None:
            yield from rules.facts(gpp.tcf)
        yield from _opt_out_facts(opt_outs, gpp.opt_outs)

    value_of = first_of(spec[kind])
    missing = f"the {kind.upper()} string is missing ({words(spec[kind])})"

    # Many people make the same choices on one day, and a person's string comes with each of their rows.
    @lru_cache(_REMEMBERED)
    def found(text: str) -> tuple[Fact, ...] | str:
        try:
            return tuple(dict.fromkeys(facts_of(text)))
        except SignalError as error:
            return f"the {kind.upper()} string is not valid: {error}"

    def signal(row: Row) -> tuple[Fact, ...]:
        text = value_of(row)
        if text is None:
            raise Refused(missing)
        if type(text) is not str:
            raise Refused(f"the {kind.upper()} string is no text")
        facts = found(text)
        if isinstance(facts, str):
            raise Refused(facts)
        return facts

    return signal


def _rules(spec: Mapping[str, Any], at: KeyPath, wrong: Callable[[KeyPath, str], None]) -> TcfRules:
    special = {int(feature): tuple(listed) for feature, listed in spec.get("special_features", {}).items()}
    purposes = {purpose: tuple(needs) for purpose, needs in spec.get("purposes", {}).items()}
    vendors = []
    for place, given in enumerate(spec.get("vendors", ())):
        vendor = Vendor(
            given["id"],
            given.get("recipient", f"gvl:{given['id']}"),
            frozenset(given.get("consent", ())),
            frozenset(given.get("legitimate_interest", ())),
            frozenset(given.get("flexible", ())),
            tuple(dict.fromkeys(given["categories"])),
        )
        vendors.append(vendor)
        here = (*at, "vendors", place)
        if vendor.consent & vendor.interest:
            wrong(here, "declares a purpose both with consent and with legitimate interest")
        if not vendor.declared.intersection(need for needs in purposes.values() for need in needs):
            wrong(here, "declares none of the TCF purposes under `purposes`: nothing would ever be recorded of it")
        for category in vendor.categories:
            for listed in special.values():
                for needed in listed:
                    if category == "*" or needed.startswith(category + "."):
                        message = f"covers {needed}, which needs a special feature: list the categories one by one"
                        wrong((*here, "categories"), message)
    for key in ("id", "recipient"):
        if len({getattr(vendor, key) for vendor in vendors}) < len(vendors):
            wrong((*at, "vendors"), f"two vendors have the same `{key}`")
    if len(purposes) * (1 + 2 * len(vendors)) > MAX_FACTS:
        wrong(at, f"would give more than {MAX_FACTS} records for one row: name fewer vendors or purposes")
    return TcfRules(
        purposes,
        frozenset(spec.get("legitimate_interest", ())),
        spec.get("own", "core") == "publisher",
        tuple(vendors),
        special,
        spec.get("least_policy_version", 0),
    )
