"""An explanation in plain words: one paragraph for each thing that was looked at. Pure; decides nothing.

A paragraph is a label and its text, so that a page and a terminal can set them as they like. Everything that is said
has its source beside it: the id of a consent, the version of a policy, the time of a registry entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from processors.case import DAY_MS, SELF, Case, Finding, Retention
from processors.consent import ConsentFact
from processors.explaining import Explanation, by_order, revealed_by, unnamed
from processors.knowledge import Recipient, covers
from processors.reasons import REASONS

BASES = {
    "explicit_consent": "the person's explicit consent",
    "policy_acceptance": "the person's acceptance of the policy",
    "legal_obligation": "a legal obligation",
}
PURPOSE_BASES = {
    "policy_acceptance": "allowed once the policy is accepted",
    "opt_out": "allowed once the policy is accepted, until the person withdraws",
    "explicit_consent": "allowed only with the person's explicit consent to it",
}
_DONE = {"share": "shared", "transfer": "transferred", "publish": "published", "collect": "collected"}
_CONSENTED = {"use": "use", "share": "sharing", "transfer": "transfer", "publish": "publication"}
_BANDS = {"adult": "an adult", "14_17": "14 to 17 years old", "under_14": "under 14"}


@dataclass(frozen=True)
class Titles:
    """What people call things: clause id → heading, recipient id → name, and the policy's title."""

    clauses: Mapping[str, str] = field(default_factory=dict)
    recipients: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""

    def clause(self, clause: str) -> str:
        heading = self.clauses.get(clause)
        return f"{clause} ({heading})" if heading else clause

    def recipient(self, name: str) -> str:
        title = self.recipients.get(name)
        return f"{title} ({name})" if title and title != name else name


def paragraphs(explanation: Explanation, occurred_at: int, titles: Titles) -> list[tuple[str, str]]:
    """(label, text) of everything that the verdict rests on, the verdict first. `occurred_at`: ms."""
    case = explanation.case
    told = [("event", _event(case, occurred_at, titles)), ("verdict", _verdict(explanation, titles))]
    told += [("finding", finding_text(finding, case, titles)) for finding in explanation.decision.findings]
    if by_order(case):
        told.append(("order", f"the legal order {case.facts.order} is on record; the person's consent is not asked"))
    else:
        told += [("person", text) for text in _person(explanation)]
        told.append(("policy", _policy(explanation, titles)))
        told.append(("purpose", _purpose(explanation, titles)))
    told.append(("data", _data(case)))
    if case.facts.activity not in ("collect", "publish"):
        told.append(("recipient", _recipient(case.recipient, case.facts.recipient, case.view.at, titles)))
    if case.facts.discloser != SELF and case.facts.activity != "collect":
        discloser = case.view.recipient(case.facts.discloser)
        told.append(("discloser", _recipient(discloser, case.facts.discloser, case.view.at, titles)))
    if case.facts.activity != "publish":
        told.append(("region", _region(case)))
    if case.facts.activity != "collect":
        told.append(("retention", _retention(explanation)))
    return told


def finding_text(finding: Finding, case: Case, titles: Titles) -> str:
    """`violation of 6 (Protection of minors): the person was under age …`."""
    outcome = "violation of" if finding.outcome == "violation" else "cannot be decided by"
    return f"{outcome} {titles.clause(finding.clause)}: {reason_text(finding, case)}"


def reason_text(finding: Finding, case: Case) -> str:
    """The reason in words, and what it is about where that is only a part of the event."""
    about = _about(finding.reason, case)
    return REASONS[finding.reason] + (f" ({', '.join(about)})" if about else "")


def _about(reason: str, case: Case) -> list[str]:
    match reason:
        case "category_beyond_policy":
            return unnamed(case)[0]
        case "field_beyond_policy":
            return unnamed(case)[1]
        case "purpose_outside_policy" | "purpose_not_recipients":
            return [case.purpose or "none given"]
        case "categories_not_recipients" if case.recipient is not None:
            return _beyond(case.recipient.categories, case)
        case "categories_not_needed" if case.rule is not None:
            return _beyond(case.rule.needs, case)
    return []


def _beyond(allowed: Iterable[str], case: Case) -> list[str]:
    return [category for category in case.categories if not covers(allowed, category)]


def consent_text(fact: ConsentFact) -> str:
    """What the person said, in words, without its id and time."""
    match fact.action:
        case "accept":
            return f"accepted version {fact.version} of the policy"
        case "leave":
            return "ended their use of the service"
        case "age":
            return f"was said to be {_BANDS.get(fact.band or '', fact.band)}"
        case "guardian":
            return "a guardian consented" if fact.granted else "a guardian's consent was refused or withdrawn"
        case "erased":
            return "was erased"
    verb = "allowed" if fact.action == "grant" else "withdrew from"
    purpose = "any purpose" if fact.purpose in ("*", None) else f"`{fact.purpose}`"
    text = f"{verb} {_CONSENTED.get(fact.activity or '', fact.activity or '')} for {purpose}"
    if fact.activity in ("share", "transfer"):
        text += f" with {_whom(fact.recipient)}"
    return text if fact.activity == "use" else f"{text}, of {listed(fact.categories)}"


def listed(values: Iterable[str]) -> str:
    """Values with commas; `*` is everything."""
    return ", ".join("everything" if value == "*" else value for value in values) or "nothing"


def moment(ms: int) -> str:
    """`2026-03-01 08:00:00 UTC`, with milliseconds where there are any."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return at.strftime("%Y-%m-%d %H:%M:%S") + (f".{ms % 1000:03d}" if ms % 1000 else "") + " UTC"


def iso(ms: int) -> str:
    """`2026-03-01T08:00:00.000Z`."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day(ms: int) -> str:
    """`2026-03-01`, or the whole moment where it is no midnight."""
    return moment(ms)[:10] if ms % DAY_MS == 0 else moment(ms)


def _event(case: Case, occurred_at: int, titles: Titles) -> str:
    facts = case.facts
    what = listed(case.categories) if case.categories else "data of which nothing is named"
    if facts.activity == "collect":
        return f"on {moment(occurred_at)} the event `{facts.event_type or 'unnamed'}` collected {what}"
    who = "we" if facts.discloser == SELF else titles.recipient(facts.discloser)
    to = ""
    if facts.activity != "publish":
        to = " with " if facts.activity == "share" else " to "
        to += titles.recipient(facts.recipient) if facts.recipient else "a recipient that is not named"
    return f"on {moment(occurred_at)} {who} {_DONE[facts.activity]} {what}{to}"


def _verdict(explanation: Explanation, titles: Titles) -> str:
    decision = explanation.decision
    if decision.verdict == "lawful":
        by = titles.clause(decision.permitted_by or "")
        return f"lawful: permitted by clause {by}, resting on {BASES[decision.legal_basis]}"
    clauses = ", ".join(decision.clauses)
    if decision.verdict == "violation":
        return f"violation of {clauses}"
    return f"gap: what is on record does not suffice to decide by {clauses}"


def _person(explanation: Explanation) -> Iterable[str]:
    state = explanation.state
    if state.suppressed:
        yield "had been erased, and had not accepted any version since"
    elif state.erased:
        yield "had been erased once, and accepted a version after it"
    if state.band != "adult":
        guardian = "a guardian had consented" if state.guardian else "no guardian had consented"
        yield f"was {_BANDS[state.band]}; {guardian}" + (
            "; the record is marked sensitive" if state.band == "under_14" else ""
        )
    for one in explanation.deciding:
        # The acceptance is told with the policy.
        if one.fact.event_id is not None and one.role != "acceptance":
            yield f"{consent_text(one.fact)} on {moment(one.fact.occurred_at)} (consent {one.fact.event_id})"


def _policy(explanation: Explanation, titles: Titles) -> str:
    policy = explanation.case.view.policy
    if policy is None:
        return "no policy was in force"
    title = f" of {titles.policy}" if titles.policy else ""
    text = f"version {policy.version}{title}, effective {day(policy.effective_at)}, was in force"
    if explanation.state.suppressed:
        return text
    taps = [one.fact for one in explanation.deciding if one.role == "acceptance"]
    if taps:
        return f"{text}; accepted on {moment(taps[0].occurred_at)} (consent {taps[0].event_id})"
    earlier = sorted(explanation.state.accepted)
    others = f", only {', '.join(f'version {version}' for version in earlier)}" if earlier else ""
    return f"{text}; the person had not accepted it{others}"


def _purpose(explanation: Explanation, titles: Titles) -> str:
    case = explanation.case
    if case.purpose is None:
        needless = case.facts.activity in ("transfer", "publish")
        return "none was given" + (", and none is needed here" if needless else "")
    source = "" if case.facts.purpose is not None else f", by the event type `{case.facts.event_type}`"
    if case.rule is None:
        policy = "is not in the policy: it needs the person's consent to this very purpose"
        return f"`{case.purpose}`{source} {policy if case.view.policy else 'cannot be looked up without a policy'}"
    return f"`{case.purpose}`{source}, clause {titles.clause(case.rule.clause)}: {PURPOSE_BASES[case.rule.basis]}"


def _data(case: Case) -> str:
    by = revealed_by(case)
    return (
        ", ".join(f"{c} (revealed by {', '.join(by[c])})" if c in by else c for c in case.categories) or "no category"
    )


def _recipient(entry: Recipient | None, name: str | None, at: int, titles: Titles) -> str:
    if entry is None:
        return f"{titles.recipient(name)} was not registered then" if name else "nobody is named"
    text = f"{titles.recipient(entry.id)}: {entry.kind}, registry entry effective {day(entry.effective_at)}"
    text += f", in {entry.country}" if entry.country else ", country not on record"
    if entry.kind in ("affiliate", "partner"):
        text += f"; may receive {listed(entry.categories)} for {listed(entry.purposes)}; {_contract(entry, at)}"
        if entry.onward:
            text += f"; may pass data on to {', '.join(_whom(target) for target in entry.onward)}"
    elif entry.kind == "successor":
        text += "; has pledged to stay bound by the policy" if entry.pledge else "; has given no pledge"
    return text


def _contract(entry: Recipient, at: int) -> str:
    if entry.contract_from is None and entry.contract_until is None:
        return "no contract on record" + (", which a partner needs" if entry.kind == "partner" else "")
    start = "" if entry.contract_from is None else f" from {day(entry.contract_from)}"
    end = "" if entry.contract_until is None else f" until {day(entry.contract_until)}"
    return f"contract{start}{end}, {'in force' if entry.contract_holds(at) else 'not in force'}"


def _region(case: Case) -> str:
    policy, facts = case.view.policy, case.facts
    if policy is None or not policy.residency:
        return "the policy restricts no region" if policy else "not looked at without a policy"
    if facts.region is None:
        return "where the data was collected is not on record"
    allowed = policy.residency.get(facts.region)
    if allowed is None:
        return f"collected in {facts.region}, which the policy does not restrict"
    country = facts.storage_country if facts.activity == "collect" else case.recipient and case.recipient.country
    where = "stored in" if facts.activity == "collect" else "disclosed to"
    return f"collected in {facts.region}, allowed in {listed(allowed)}; {where} {country or 'a country not on record'}"


def _retention(explanation: Explanation) -> str:
    if explanation.retention is Retention.UNCHECKED or explanation.age is None:
        return "not checked: the event does not say when the data was collected (no collected_at)"
    if explanation.retention is Retention.FUTURE:
        return "the data is said to have been collected after it was disclosed"
    age = explanation.age / DAY_MS
    limit = "no limit" if explanation.limit is None else f"a limit of {explanation.limit // DAY_MS} days"
    return f"the data was {age:.1f} days old, with {limit}"


def _whom(recipient: str | None) -> str:
    if recipient in ("*", None):
        return "anyone"
    return f"any {recipient[5:]}" if recipient.startswith("kind:") else str(recipient)
