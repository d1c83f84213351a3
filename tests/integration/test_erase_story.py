"""`lineage erase` to the certificate through the real stack: people asked for by command, recipients by persons.

No connector is configured, so that every recipient is a task for a person. One data directory serves the module, and
the tests tell one story in their order.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.test_cli_stack import RECIPIENTS, Lineage, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    command = Lineage(tmp_path_factory.mktemp("erased") / "data")
    done = command.run("up", "--background", "--recipients", str(RECIPIENTS), "--json")
    assert done.returncode == 0, done.stderr
    yield command
    command.run("down")


@pytest.fixture(scope="module")
def shared_with(lineage: Lineage) -> dict[str, set[str]]:
    """User → every recipient that got their data, by name; those with two or more, fewest first.

    Without those whose erasure is born by itself: who leaves, withdraws or is a minor.
    """
    file = lineage.simulate("people.jsonl", seed=5, people=60)
    lineage("ingest", str(file), "--mapping", "jsonl")
    lineage("wait", "--timeout", "120")
    found: dict[str, set[str]] = {}
    others = set()
    for line in file.read_text("utf-8").splitlines():
        event = json.loads(line)
        if event["topic"] == "sharing":
            found.setdefault(event["user_id"], set()).add(event["recipient"] or "public")
        elif event["topic"] == "consent" and event["action"] not in ("accept", "grant"):
            others.add(event["user_id"])
    several = {user: names for user, names in found.items() if len(names) > 1 and user not in others}
    return dict(sorted(several.items(), key=lambda item: len(item[1])))


def recipients(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {t["recipient"]: t for t in answer["targets"] if not t["recipient"].startswith("store:")}


def request(lineage: Lineage, request_id: str) -> dict[str, Any]:
    return dict(lineage("requests", request_id))


def test_what_a_dry_run_tells_is_who_is_asked(lineage: Lineage, shared_with: dict[str, set[str]]) -> None:
    user = next(iter(shared_with))
    told = lineage("erase", user, "--dry-run")
    assert set(recipients(told)) == shared_with[user]
    assert "controller_customer_id" in told["identifiers"]
    asked = lineage("erase", user, "--wait", "--timeout", "60")
    assert set(recipients(asked)) == shared_with[user]
    assert asked["state"] == "awaiting"
    assert {(t["hop"], t["protocol"]) for t in recipients(asked).values()} == {
        (t["hop"], t["protocol"]) for t in recipients(told).values()
    }
    again = lineage("erase", user)
    assert (again["request_id"], again["new"]) == (asked["request_id"], False)


def test_held_nothing_goes_on_and_released_it_does(lineage: Lineage, shared_with: dict[str, set[str]]) -> None:
    open_one = lineage("erase", next(iter(shared_with)))
    name = open_one["request_id"]
    assert lineage("requests", "hold", name, "--ground", "court order")["hold"] == "court order"
    refused = lineage.run("requests", "task", name, next(iter(recipients(open_one))))
    assert refused.returncode == 1
    assert "held" in refused.stderr
    assert lineage("requests", "release", name)["hold"] == ""
    refused = lineage.run("requests", "cancel", name)
    assert refused.returncode == 1
    assert "recipients have been asked" in refused.stderr


def test_confirmed_by_persons_it_is_completed_and_certified(lineage: Lineage, shared_with: dict[str, set[str]]) -> None:
    user = next(iter(shared_with))
    name = lineage("erase", user)["request_id"]
    message = lineage("requests", "task", name, next(iter(shared_with[user])))
    assert user in message["text"]
    for recipient in shared_with[user]:
        lineage("requests", "confirm", name, recipient, "--note", "e-mail")
    eventually(lambda: request(lineage, name)["ended_at"] is not None)
    ended = request(lineage, name)
    assert ended["state"] == "completed"
    assert {t["grade"] for t in recipients(ended).values()} == {"claimed"}
    assert {t["grade"] for t in ended["targets"]} == {"claimed", "verified"}
    file = lineage.data.parent / "certificate.jws"
    lineage("certificate", "show", name, "--output", str(file))
    told = lineage("certificate", "verify", str(file))
    assert (told["valid"], told["trusted"], told["request_id"]) == (True, True, name)
    assert {r["recipient"] for r in told["claims"]["recipients"]} == shared_with[user]
    assert user not in json.dumps(told)
    assert lineage("subject", user) == {"subject": None, "events": []}
    assert name not in [one["request_id"] for one in lineage("requests")["requests"]]


def test_an_exemption_makes_it_partial(lineage: Lineage, shared_with: dict[str, set[str]]) -> None:
    user = list(shared_with)[1]
    asked = lineage("erase", user, "--wait", "--timeout", "60")
    name = asked["request_id"]
    kept, *others = recipients(asked)
    lineage("requests", "exempt", name, kept, "--ground", "tax law: invoices, 10 years")
    for recipient in others:
        lineage("requests", "confirm", name, recipient)
    eventually(lambda: request(lineage, name)["ended_at"] is not None)
    assert request(lineage, name)["state"] == "partially_completed"
    claims = lineage("certificate", "show", name)["claims"]
    assert [c["clause"] for c in claims["clauses"]] == ["8", "5"]
    [exempt] = [r for r in claims["recipients"] if r["state"] == "exempt"]
    assert (exempt["recipient"], exempt["ground"]) == (kept, "tax law: invoices, 10 years")


def test_what_is_not_verified_waits_and_may_be_refused(lineage: Lineage, shared_with: dict[str, set[str]]) -> None:
    first, second = list(shared_with)[2:4]
    waiting = lineage("erase", first, "--unverified")
    assert (waiting["state"], waiting["due_at"]) == ("received", None)
    refused = lineage("requests", "refuse", waiting["request_id"], "--ground", "identity could not be verified")
    assert (refused["state"], refused["ground"]) == ("refused", "identity could not be verified")
    waiting = lineage("erase", second, "--unverified", "--origin", "leave")
    verified = lineage("requests", "verify", waiting["request_id"], "--how", "video call")
    assert verified["verified_by"] == "video call"
    assert verified["due_at"] is not None
    assert lineage("subject", first)["subject"] is not None
    missing = lineage.run("certificate", "show", refused["request_id"])
    assert missing.returncode == 1
    assert "refused and has no certificate" in missing.stderr


def test_a_person_without_recipients_is_completed_at_once(lineage: Lineage) -> None:
    done = lineage("erase", "u-never-seen", "--wait", "--timeout", "60")
    assert done["state"] == "completed"
    assert recipients(done) == {}
    assert done["certificate"]
