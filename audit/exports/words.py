"""What an export for people calls things: data categories, bases, verdicts, activities, in plain words. Pure."""

from __future__ import annotations

from audit.exports.background import Background, Record
from audit.exports.consents import GIVEN, REFUSED, RENEWED, REVOKED, WITHDRAWN, Scope

_CATEGORIES = {
    "user.account": "your account",
    "user.account.settings": "your settings",
    "user.account.username": "your user name",
    "user.authorization": "how you log in",
    "user.authorization.credentials": "what you log in with",
    "user.authorization.biometric": "biometrics that you log in with",
    "user.behavior": "what you do",
    "user.behavior.browsing_history": "pages you visited",
    "user.behavior.media_consumption": "what you watched or listened to",
    "user.behavior.purchase_history": "what you bought or subscribed to",
    "user.behavior.search_history": "what you searched for",
    "user.biometric": "biometrics",
    "user.biometric.fingerprint": "your fingerprint",
    "user.biometric.health": "your health",
    "user.biometric.voice": "your voice",
    "user.childrens": "data about children",
    "user.contact": "how to reach you",
    "user.contact.address": "your address",
    "user.contact.email": "your e-mail address",
    "user.contact.phone_number": "your phone number",
    "user.content": "what you stored or sent",
    "user.content.private": "what you stored or sent privately",
    "user.content.public": "what you published",
    "user.content.self_image": "pictures of you",
    "user.demographic": "facts about you",
    "user.demographic.age_range": "your age group",
    "user.demographic.date_of_birth": "your date of birth",
    "user.demographic.gender": "your gender",
    "user.demographic.language": "your language",
    "user.device": "your device",
    "user.device.cookie": "cookies",
    "user.device.cookie_id": "cookie ids",
    "user.device.device_id": "ids of your device",
    "user.device.ip_address": "your IP address",
    "user.financial": "your finances",
    "user.financial.bank_account": "your bank account",
    "user.financial.credit_card": "your credit card",
    "user.government_id": "ids that an authority gave you",
    "user.health_and_medical": "your health",
    "user.location": "where you are",
    "user.location.imprecise": "roughly where you are",
    "user.location.precise": "exactly where you are",
    "user.name": "your name",
    "user.name.first": "your first name",
    "user.name.last": "your last name",
    "user.payment": "how you pay",
    "user.social": "whom you know",
    "user.telemetry": "how the app runs and is used",
    "user.unique_id": "ids that stand for you",
    "user.unique_id.pseudonymous": "ids that stand for you without your name",
}
BASES = {
    "explicit_consent": "you agreed to this very thing",
    "policy_acceptance": "you accepted our privacy policy",
    "legal_obligation": "the law or an authority requires it",
    "none": "none on record",
}
VERDICTS = {
    "lawful": "in line with our policy",
    "violation": "not in line with our policy",
    "gap": "our records do not suffice to tell",
}
_DONE = {"share": "shared", "transfer": "transferred", "publish": "published", "collect": "collected"}
KINDS = {
    "affiliate": "a company of our group",
    "partner": "a partner under contract",
    "authority": "an authority",
    "successor": "a company that took over from us",
    "public": "the public",
}
STATES = {GIVEN: "given", RENEWED: "given again", REFUSED: "refused", WITHDRAWN: "withdrawn", REVOKED: "ended"}
_USES = {"use": "use", "share": "sharing", "transfer": "transfer", "publish": "publication"}


def category_words(category: str) -> str:
    """A fideslang key in plain words; of a key that is not listed its last part, readably."""
    if category == "*":
        return "everything"
    return _CATEGORIES.get(category) or category.rpartition(".")[2].replace("_", " ")


def purpose_words(purpose: str | None, policy: Record | None) -> str:
    """The heading of the clause that states a purpose, in the policy's own words; else its name."""
    if purpose is None:
        return "no purpose on record"
    rule = None if policy is None else policy["purposes"].get(purpose)
    if policy is None or rule is None:
        return f"{purpose.replace('_', ' ')} (not a purpose of our policy)"
    heading = policy["clauses"].get(rule["clause"])
    return f"{heading} ({rule['clause']})" if heading else f"{purpose.replace('_', ' ')} ({rule['clause']})"


def clause_words(clause: str, policy: Record | None) -> str:
    heading = None if policy is None else policy["clauses"].get(clause)
    return f"{clause} {heading}" if heading else clause


def activity_words(activity: str) -> str:
    return _DONE.get(activity, activity)


def recipient_words(recipient: str | None, background: Background) -> str:
    if recipient in (None, "*"):
        return "anyone"
    if str(recipient).startswith("kind:"):
        kind = str(recipient).removeprefix("kind:")
        return f"any {kind}"
    return background.name_of(str(recipient))


def consent_words(scope: Scope, policy: Record | None, background: Background) -> str:
    """What a consent is about."""
    if scope.kind == "accept":
        return f"our privacy policy, version {scope.version}"
    if scope.kind == "guardian":
        return "your use of our service, by your parent or guardian"
    purpose = "any purpose" if scope.purpose in ("*", None) else f"“{purpose_words(scope.purpose, policy)}”"
    words = f"{_USES.get(scope.activity or '', scope.activity or 'use')} for {purpose}"
    if scope.activity in ("share", "transfer"):
        words += f" with {recipient_words(scope.recipient, background)}"
    if scope.categories:
        words += f": {', '.join(map(category_words, scope.categories))}"
    return words
