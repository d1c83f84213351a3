"""Lint and diff: what documents hardly mean is found where it stands, and changes are told in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infra.cli.main import lineage
from processors.policy_diff import Change, diff_policies, diff_recipients
from schemas import schema_dir
from streams.policies import (
    lint_policy,
    lint_recipients,
    lint_together,
    load_policy,
    load_recipients,
    policy_record,
    recipient_records,
)

POLICIES = schema_dir() / "policies"
AOXUN = POLICIES / "aoxun.yaml"
AMENDED = POLICIES / "examples" / "aoxun-v2.yaml"
RECIPIENTS = POLICIES / "recipients-example.yaml"

POLICY = """\
version: 1
effective_at: 2026-01-01T00:00:00Z
purposes:
  service: {clause: "2.1", basis: policy_acceptance, needs: [user.device, user.contact]}
  ads: {clause: "2.6", basis: opt_out, needs: [user.device], retention_days: 90}
categories: [user.device, user.contact, user.content]
events: {app_open: service, ad_view: ads}
fields: {ip: user.device.ip_address, email: user.contact.email}
residency: {CN: [CN]}
retention: {user.device: 30}
"""
REGISTRY = """\
recipients:
- {id: cloud, kind: affiliate, effective_at: 2026-01-01T00:00:00Z, country: CN, purposes: [service], categories: [user]}
- id: mailer
  kind: partner
  effective_at: 2026-01-01T00:00:00Z
  country: CN
  purposes: [service]
  categories: [user.contact]
  contract_from: 2026-01-01T00:00:00Z
  onward: [cloud]
"""


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def clean() -> tuple[str, str]:
    """A policy and a registry of which nothing is noted but what a test puts in."""
    return changed(POLICY, ", user.content]", "]"), REGISTRY


def test_nothing_is_noted_of_documents_that_mean_what_they_say() -> None:
    policy, registry = (load_policy(clean()[0]), load_recipients(clean()[1]))
    assert lint_policy(policy) == []
    assert lint_recipients(registry, policy) == []
    assert lint_together(policy, registry) == ([], [])


@pytest.mark.parametrize(
    ("old", "new", "path", "says"),
    [
        ("ad_view: ads", "ad_view: adds", "events.ad_view", "did you mean `ads`?"),
        ("ad_view: ads", "ad_view: ads, Ad_View: service", "events.Ad_View", "`ad_view` differs by capital letters"),
        ("ip: user", "IP: user.contact, ip: user", "fields.ip", "`IP` differs by capital letters"),
        ("needs: [user.device, user.contact]", "needs: [user.device]", "fields.email", "no purpose needs it"),
        ("user.contact]\nev", "user.contact, user.content]\nev", "categories[2]", "no purpose needs `user.content`"),
        ("[user.device], ret", "[], ret", "purposes.ads.needs", "needs nothing"),
        ("retention_days: 90", "retention_days: 0", "purposes.ads.retention_days", "0 days"),
        ("{user.device: 30}", "{user.device: 30, user.content: 9}", "retention[user.content]", "does not cover"),
        (
            "{user.device: 30}",
            "{user.device: 30, user.device.ip_address: 60}",
            "retention[user.device.ip_address]",
            "never counts: `user.device` covers it with 30 days",
        ),
        ("{CN: [CN]}", "{CN: []}", "residency.CN", "no country is allowed"),
        ("{CN: [CN]}", "{CN: [HK]}", "residency.CN", "CN itself is not among"),
        ("version: 1", "version: 1\nage_of_majority: 16", "age_of_majority", "changes no verdict"),
    ],
)
def test_what_a_policy_hardly_means(old: str, new: str, path: str, says: str) -> None:
    policy, _ = clean()
    notes = lint_policy(load_policy(changed(policy, old, new)))
    assert path in [note.path for note in notes]
    [note] = [note for note in notes if note.path == path]
    assert says in note.message


def test_a_limit_below_a_longer_one_counts() -> None:
    policy = changed(clean()[0], "{user.device: 30}", "{user.device: 30, user.device.ip_address: 7}")
    assert lint_policy(load_policy(policy)) == []


@pytest.mark.parametrize(
    ("old", "new", "path", "says"),
    [
        ("  contract_from: 2026-01-01T00:00:00Z\n", "", "recipients[1]", "has no contract"),
        (
            "  onward: [cloud]",
            "  contract_until: 2026-03-01T00:00:00Z\n  onward: [cloud]\n"
            "- {id: mailer, kind: partner, effective_at: 2026-04-01T00:00:00Z, contract_from: 2026-01-01T00:00:00Z,\n"
            "   contract_until: 2026-03-01T00:00:00Z, country: CN, purposes: [service], categories: [user.contact]}",
            "recipients[2]",
            "its contract is never in force",
        ),
        (
            "contract_from: 2026-01-01T00:00:00Z",
            "contract_from: 2027-01-01T00:00:00Z\n"
            "- {id: mailer, kind: public, effective_at: 2026-12-01T00:00:00Z}\n"
            "- id: other\n  kind: affiliate\n  effective_at: 2026-01-01T00:00:00Z\n"
            "  purposes: [service]\n  categories: [user.contact]",
            "recipients[1]",
            "its contract is never in force",
        ),
        ("purposes: [service], categories: [user]", "categories: [user]", "recipients[0]", "has no `purposes`"),
        ("  categories: [user.contact]\n", "", "recipients[1]", "has no `categories`"),
        ("[cloud]", "[clod]", "recipients[1].onward[0]", "did you mean `cloud`?"),
        ("[cloud]", "[mailer]", "recipients[1].onward[0]", "names itself"),
        ("[cloud]", "['kind:successor']", "recipients[1].onward[0]", "no successor is registered"),
        ("[cloud]", "[cloud]\n  pledge: true", "recipients[1].pledge", "counts for a successor only"),
        ("  purposes: [service]", "  purposes: [servce]", "recipients[1].purposes[0]", "is no purpose of policy 1"),
    ],
)
def test_what_a_registry_hardly_means(old: str, new: str, path: str, says: str) -> None:
    policy, registry = clean()
    notes = lint_recipients(load_recipients(changed(registry, old, new)), policy_record(load_policy(policy)))
    assert any(note.path == path and says in note.message for note in notes), notes


@pytest.mark.parametrize(
    ("old", "new", "path", "says"),
    [
        ("country: CN", "country: US", "recipients[0].country", "is in US: disclosing to it what is collected in CN"),
        ("country: CN, ", "", "recipients[0]", "has no `country`"),
        ("[user.contact]", "[user.content]", "recipients[1].categories[0]", "policy 1 does not cover `user.content`"),
        ("  purposes: [service]", "  purposes: [ads]", "recipients[1].categories[0]", "none of its purposes needs"),
        ("  purposes: [service]", "  purposes: [ads]", "recipients[1].purposes[0]", "`ads` needs none of its"),
    ],
)
def test_what_a_registry_hardly_means_under_a_policy(old: str, new: str, path: str, says: str) -> None:
    policy, registry = clean()
    _, notes = lint_together(load_policy(policy), load_recipients(changed(registry, old, new)))
    assert any(note.path == path and says in note.message for note in notes), notes


def test_what_a_policy_has_that_nothing_reaches() -> None:
    policy, registry = clean()
    unreached = changed(policy, "ad_view: ads", "ad_view: service")
    notes, _ = lint_together(load_policy(unreached), load_recipients(registry))
    assert [(note.line, note.path) for note in notes] == [(5, "purposes.ads")]
    reached = changed(registry, "purposes: [service], cat", "purposes: [service, ads], cat")
    assert lint_together(load_policy(unreached), load_recipients(reached))[0] == []
    abroad = changed(registry, "country: CN", "country: HK")
    notes, _ = lint_together(load_policy(policy), load_recipients(abroad))
    assert [(note.line, note.path) for note in notes] == [(9, "residency.CN")]
    assert "no recipient is in CN" in notes[0].message


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(lineage, [str(argument) for argument in arguments])


def test_lint_passes_with_warnings_and_fails_with_errors(tmp_path: Path) -> None:
    policy, registry = tmp_path / "p.yaml", tmp_path / "r.yaml"
    policy.write_text(POLICY, "utf-8")
    registry.write_text(changed(REGISTRY, "country: CN", "country: US"), "utf-8")
    told = run("policy", "lint", policy, registry)
    assert told.exit_code == 0
    assert f"{policy}:6: warning: categories[2]: no purpose needs" in told.stdout
    assert f"{registry}:2: warning: recipients[0].country: is in US" in told.stdout
    assert run("policy", "lint", policy, registry, "--strict").exit_code == 1
    policy.write_text(changed(POLICY, "[user.device], ret", "[user.name], ret"), "utf-8")
    told = run("policy", "lint", policy, registry, "--json")
    assert told.exit_code == 1
    answer = json.loads(told.stdout)
    assert (answer["valid"], answer["errors"]) == (False, 1)
    first = answer["notes"][0]
    assert (first["level"], first["line"], first["path"]) == ("error", 5, "purposes.ads.needs[0]")
    # The registry is looked at all the same.
    registry.write_text(changed(REGISTRY, "[cloud]", "[clod]"), "utf-8")
    notes = json.loads(run("policy", "lint", policy, registry, "--json").stdout)["notes"]
    assert [note["file"] for note in notes] == [str(policy), str(registry)]


def test_lint_finds_two_files_that_contradict_each_other(tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(POLICY, "utf-8")
    other.write_text(changed(POLICY, "90", "91"), "utf-8")
    told = run("policy", "lint", one, other)
    assert told.exit_code == 1
    assert f"{other}:1: error: version: version 1 says something else in {one}" in told.stdout
    one.write_text(REGISTRY, "utf-8")
    other.write_text(changed(REGISTRY, "country: CN", "country: HK"), "utf-8")
    told = run("policy", "lint", one, other)
    assert told.exit_code == 1
    assert "this entry of `cloud` says something else" in told.stdout
    assert run("policy", "lint", one, one).exit_code == 0


def test_the_shipped_documents_pass_lint() -> None:
    assert run("policy", "lint", AOXUN, AMENDED, RECIPIENTS).exit_code == 0
    assert run("policy", "lint", AOXUN, AMENDED, "--strict").exit_code == 0


# Diff

NEXT = changed(changed(POLICY, "version: 1", "version: 2"), "2026-01-01", "2026-05-01")


def changes(old: str, new: str, base: str = NEXT) -> list[Change]:
    """What changes besides the version, from the first policy to the next."""
    records = [policy_record(load_policy(text)) for text in (POLICY, changed(base, old, new))]
    return [change for change in diff_policies(*records) if change.key != "version"]


def test_the_same_policy_has_no_changes_but_its_version() -> None:
    one, other = (policy_record(load_policy(text)) for text in (POLICY, NEXT))
    assert diff_policies(one, one) == []
    [change] = diff_policies(one, other)
    assert (change.affects, change.key, change.before, change.after) == ("subjects", "version", 1, 2)
    assert "version 2 is in force from 2026-05-01 on: until you accept it" in change.text


@pytest.mark.parametrize(
    ("old", "new", "key", "text"),
    [
        (
            "basis: opt_out, needs",
            "basis: explicit_consent, needs",
            "purposes.ads.basis",
            "`ads` now needs your explicit consent",
        ),
        (
            "retention_days: 90",
            "retention_days: 30",
            "purposes.ads.retention_days",
            "data for `ads` is kept for 30 days instead of 90",
        ),
        (
            ", retention_days: 90",
            "",
            "purposes.ads.retention_days",
            "data for `ads` is kept without a limit in days, before for 90 days",
        ),
        (
            "needs: [user.device], ret",
            "needs: [user.device, user.contact.email], ret",
            "purposes.ads.needs",
            "`ads` may also use your contact: email (user.contact.email)",
        ),
        (
            '  ads: {clause: "2.6", basis: opt_out, needs: [user.device], retention_days: 90}\n',
            "",
            "purposes.ads",
            "from 2026-05-01 your data may no longer be used for `ads`, unless you consent to that very purpose",
        ),
        (
            "categories: [user.device,",
            "categories: [user.device, user.location,",
            "categories",
            "your location (user.location) may also be collected",
        ),
        ("{ip:", "{idfa: user.device.device_id, ip:", "fields.idfa", "it tells your device: device id"),
        ("email: user.contact.email", "email: user.contact", "fields.email", "now counts as your contact (user."),
        ("ad_view: ads", "ad_view: service", "events.ad_view", "now serves `service` instead of `ads`"),
        (
            "{CN: [CN]}",
            "{CN: [HK]}",
            "residency.CN",
            "what is collected in CN may also be kept in HK and may no longer be kept in CN",
        ),
        ("{CN: [CN]}", "{}", "residency.CN", "what is collected in CN may be kept in any country"),
        ("{user.device: 30}", "{user.device: 10}", "retention.user.device", "is kept for 10 days instead of 30"),
        ("version: 2", "version: 2\nresponse_days: 15", "response_days", "answered within 15 days instead of 30"),
        (
            "version: 2",
            "version: 2\nrules: {minor: '9'}",
            "rules.minor",
            "the rule `minor` cites clause 9 instead of 6",
        ),
    ],
)
def test_what_changes_for_people_in_words(old: str, new: str, key: str, text: str) -> None:
    if "ads" in old and new == "":
        base = changed(NEXT, ", ad_view: ads", "")
        found = changes(old, new, base) if key == "purposes.ads" else changes(old, new)
    else:
        found = changes(old, new)
    assert any(change.affects == "subjects" and change.key == key and text in change.text for change in found), found


def test_a_new_purpose_says_what_it_uses_and_on_which_basis() -> None:
    purpose = '  near: {clause: "2.8", basis: explicit_consent, needs: [user.device.ip_address]}\ncategories'
    [change] = changes("categories", purpose)
    assert change.text == (
        "from 2026-05-01 your data may also be used for `near` (2.8): device: ip address (user.device.ip_address); "
        "allowed only with your explicit consent"
    )


def test_what_changes_for_recipients() -> None:
    found = changes("needs: [user.device], ret", "needs: [user.device.ip_address], ret")
    assert [change.text for change in found if change.affects == "recipients"] == [
        "affiliates and partners may no longer receive user.device for `ads`"
    ]


def entries(text: str) -> list[dict[str, Any]]:
    return recipient_records(load_recipients(text))


def test_registries_are_compared_by_the_latest_entry() -> None:
    assert diff_recipients(entries(REGISTRY), entries(REGISTRY)) == []
    later = (
        REGISTRY + "- {id: mailer, kind: partner, effective_at: 2026-06-01T00:00:00Z, country: US, purposes: [ads],\n"
        "   categories: [user.contact.email], contract_from: 2026-01-01T00:00:00Z, "
        "contract_until: 2027-01-01T00:00:00Z}\n"
    )
    assert [change.text for change in diff_recipients(entries(REGISTRY), entries(later))] == [
        "from 2026-06-01 mailer is in US, before in CN",
        "from 2026-06-01 mailer may also receive data for ads",
        "from 2026-06-01 mailer may no longer receive data for service",
        "from 2026-06-01 mailer may no longer receive user.contact",
        "from 2026-06-01 mailer has a contract that ends on 2027-01-01, before at no time on record",
        "from 2026-06-01 mailer may no longer pass data on to cloud",
    ]
    other = changed(changed(REGISTRY, "id: cloud", "id: store"), "[cloud]", "[store]")
    told = {change.key: change.text for change in diff_recipients(entries(REGISTRY), entries(other))}
    assert told["cloud"] == "cloud is not in the newer registry"
    assert told["store"].startswith("store is registered as affiliate from 2026-01-01: it may receive user for service")
    assert "refused once the older is published" in told["mailer.effective_at"]


def test_diff_of_files(tmp_path: Path) -> None:
    told = run("policy", "diff", AOXUN, AMENDED, "--json")
    assert told.exit_code == 0, told.output
    answer = json.loads(told.stdout)
    assert (answer["from"]["version"], answer["to"]["version"]) == (1, 2)
    keys = {change["key"] for change in answer["changes"]}
    assert {"purposes.nearby", "fields.latitude", "clauses.2.8", "purposes.ad_recommendation.retention_days"} <= keys
    shown = run("policy", "diff", AOXUN, AMENDED)
    assert shown.stdout.startswith("for the people")
    assert "nothing changes" in run("policy", "diff", AOXUN, AOXUN).stdout
    assert "nothing changes" in run("policy", "diff", RECIPIENTS, RECIPIENTS).stdout
    assert "nothing changes" in run("recipients", "diff", RECIPIENTS, RECIPIENTS).stdout
