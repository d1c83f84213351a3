"""What a person can do about their data, by the clauses of a policy. Pure. The law may give them more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from audit.exports.background import Background, Record
from audit.exports.words import clause_words
from processors.knowledge import STANDARD_RULES


def rights(policy: Record | None, background: Background) -> Iterator[dict[str, Any]]:
    """What a person can do, each with the clause of the policy in force that says so."""
    if policy is None:
        return
    rules: Mapping[str, str] = {**STANDARD_RULES, **policy["rules"]}
    ways = background.operator

    def right(text: str, clause: str, how: str | None = None) -> dict[str, Any]:
        return {"text": text, "clause": clause, "words": clause_words(clause, policy), "how": how}

    yield right(
        "You can have your data deleted. Everyone who was given them is then asked to delete them too.",
        rules["suppressed"],
        ways.requests,
    )
    for what in ("share", "transfer", "publish"):
        text = f"You can withdraw any consent to {what} your data."
        yield right(text, rules[f"{what}_consent"], ways.withdrawal)
    for name, purpose in policy["purposes"].items():
        if purpose["basis"] == "opt_out":
            what = policy["clauses"].get(purpose["clause"], name.replace("_", " "))
            yield right(f"You can turn this use of your data off: “{what}”.", purpose["clause"], ways.withdrawal)
    yield right("We use your data only under a version of the policy that you accepted.", rules["not_accepted"])
    yield right("Your data are kept no longer than their purposes, or the law, need them.", rules["retention"])
    minor = f"Under {policy['age_of_majority']} years of age, your parent or guardian must consent before you use the "
    yield right(minor + "service; data that came without that consent are deleted.", rules["minor"], ways.requests)
    # Another numbering means other things by this number.
    clause = "8" if dict(rules) == dict(STANDARD_RULES) else rules["suppressed"]
    text = f"You get an answer within {policy['response_days']} days after we have verified that it is you."
    yield right(text, clause, ways.requests or ways.contact)
