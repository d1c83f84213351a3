"""`lineage erase`, `requests` and `certificate show` on a real broker and the real engine: what they tell Kafka, what
they show of the projection. The controller that answers is not part of it: what it would have written is inserted.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from clickhouse_driver import Client
from confluent_kafka.admin import AdminClient

from infra.api.authentication import create_token
from infra.cli.erasure_queue import now_ms
from infra.cli.main import main
from infra.settings import Settings, settings
from processors.erasure import DAY, Request, Target, to_record
from processors.erasure_certificate import ErasedPlace, certificate, load_signing_key, sign
from processors.erasure_commands import idempotency_key
from processors.pseudonyms import alias
from sinks.clickhouse import migrate
from sinks.clickhouse.erasures import insert_erasure_states
from streams.erasure_intake import ErasureIntake
from streams.identities import Identity, load_private_key
from streams.scan import scan
from streams.sealed_identities import find_sealed, open_identities
from streams.serdes import Deserializer
from streams.topics import ERASURE_RECEIPTS, ERASURE_REQUESTS, apply, plan
from tests.api_process import api_thread
from tests.clickhouse_fixture import ClickHouseForTests
from tests.kafka_fixture import KafkaForTests
from tests.live_files import contents

NOW = now_ms()


@dataclass
class Place:
    """A data directory with secrets, a broker and a database; the command run on them."""

    settings: Settings
    client: Client
    capsys: pytest.CaptureFixture[str]
    versions: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--data", str(self.settings.data)])
        told = self.capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    def json(self, *arguments: str) -> Any:
        """The answer of a command that must succeed."""
        code, out, err = self.run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def refused(self, *arguments: str) -> str:
        """The one line that a command ends with that must fail."""
        code, _, err = self.run(*arguments)
        lines = err.strip().splitlines()
        assert code == 1
        assert len(lines) == 1, err
        return lines[0]

    def person(self, user: str) -> bytes:
        return alias(self.settings.pepper(), user)

    def put(self, request: Request) -> Request:
        """As the controller and the projection would."""
        version = next(self.versions)
        record = to_record(request) | {"version": version}
        insert_erasure_states(self.client, [record], [version], f"test:{version}:{uuid4()}")
        return request

    def steps(self, of: UUID) -> list[dict[str, Any]]:
        """What Kafka was told about a request, with the key's alias."""
        return [r | {"alias": key} for key, r in self._read(ERASURE_REQUESTS) if r["request_id"] == of.bytes]

    def receipts(self, of: UUID) -> list[dict[str, Any]]:
        return [record for _, record in self._read(ERASURE_RECEIPTS) if record["request_id"] == of.bytes]

    def _read(self, topic: str) -> list[tuple[bytes, dict[str, Any]]]:
        deserializer = Deserializer()
        return [(m.key(), deserializer.decode(m.value())[1]) for b in scan(self.settings.kafka(), topic) for m in b]


@pytest.fixture(scope="module")
def bootstrap(kafka: KafkaForTests) -> str:
    """The broker with the topics of the catalogue, which other tests may have made already."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    return kafka.bootstrap


@pytest.fixture
def place(
    bootstrap: str,
    clickhouse: ClickHouseForTests,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Place]:
    database = clickhouse.database("erase")
    for name in [name for name in os.environ if name.startswith("LINEAGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LINEAGE_KAFKA", bootstrap)
    monkeypatch.setenv("LINEAGE_CLICKHOUSE", database.url)
    # Nobody answers here: what is not shown at once will not be.
    monkeypatch.setattr("infra.cli.erasure_queue.SHOWN_SECONDS", 0.0)
    found = settings(data=tmp_path / "data")
    found.make_secrets()
    with database.client() as client:
        migrate.apply(client)
        yield Place(found, client, capsys)


@pytest.fixture
def asked(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place with an audit API, which the commands ask that only show."""
    token = tmp_path / "token"
    token.write_text(create_token(place.settings.api_clients(), "ada", ["auditor"]))
    with api_thread(place.settings) as url:
        monkeypatch.setenv("LINEAGE_API_URL", url)
        monkeypatch.setenv("LINEAGE_API_TOKEN_FILE", str(token))
        yield place


def waiting(place: Place, user: str = "u-17", **changes: Any) -> Request:
    """A verified request that waits for two recipients."""
    targets = (
        Target("lumen-analytics", 1, "acknowledged", "acknowledged", "opendsr", attempts=1, next_at=NOW + DAY),
        Target("old-agency", 2, "dispatched", "none", "manual", attempts=1, dispatched_at=NOW - 6 * DAY, round=1),
        Target("store:lineage", 0, protocol="purge"),
    )
    given: dict[str, Any] = {
        "alias": place.person(user),
        "subject": uuid4(),
        "state": "awaiting",
        "verified_at": NOW - 7 * DAY,
        "due_at": NOW + 23 * DAY,
        "next_at": NOW + DAY,
        "verified_by": "one-time code",
        "targets": targets,
        "history": ((NOW - 8 * DAY, "received (person)"),),
    }
    return place.put(Request(uuid4(), NOW - 8 * DAY, **(given | changes)))


# --- erase


def test_a_person_is_asked_for_once_verified(place: Place) -> None:
    code, out, err = place.run("erase", "u-1", "--json")
    assert code == 0
    assert "this user is not known here" in err
    answer = json.loads(out)
    request_id = UUID(answer["request_id"])
    assert (answer["state"], answer["targets"], answer["certificate"], answer["new"]) == ("verified", [], None, True)
    assert answer["due_at"][:4].isdigit()
    received, verified = place.steps(request_id)
    assert (received["step"], verified["step"]) == ("received", "verified")
    assert received["alias"] == verified["alias"] == place.person("u-1")
    assert verified["verified_by"] == "operator at the command line"
    assert (verified["origin"], verified["regulation"]) == ("person", "pipl")
    # Should no edge have sealed it: what recipients know the person by.
    key = load_private_key(place.settings.controller_private_key())
    sealed = find_sealed(place.settings.kafka(), [place.person("u-1")])[place.person("u-1")]
    assert [i["identity_value"] for i in open_identities(key, place.person("u-1"), sealed)] == ["u-1"]


def test_unverified_waits_for_a_person(place: Place) -> None:
    answer = place.json("erase", "u-2", "--unverified", "--origin", "leave", "--regulation", "gdpr")
    assert (answer["state"], answer["due_at"]) == ("received", None)
    [received] = place.steps(UUID(answer["request_id"]))
    assert (received["step"], received["origin"], received["regulation"]) == ("received", "leave", "gdpr")


def test_an_open_request_of_the_same_person_answers(place: Place) -> None:
    request = waiting(place, "u-3")
    answer = place.json("erase", "u-3")
    assert (answer["request_id"], answer["new"]) == (str(request.request_id), False)
    assert [t["recipient"] for t in answer["targets"]] == ["lumen-analytics", "old-agency", "store:lineage"]
    assert place.steps(request.request_id) == []


def test_an_open_request_that_waits_for_identity_is_verified(place: Place) -> None:
    request = waiting(place, "u-4", state="received", verified_at=None, due_at=None, targets=())
    answer = place.json("erase", "u-4", "--verified-by", "passport at the desk")
    assert answer["request_id"] == str(request.request_id)
    [verified] = place.steps(request.request_id)
    assert (verified["step"], verified["verified_by"]) == ("verified", "passport at the desk")


def test_many_from_a_file(place: Place, tmp_path: Path) -> None:
    request = waiting(place, "u-6")
    file = tmp_path / "users.txt"
    file.write_text("u-5\n\nu-6\nu-5\n")
    answer = place.json("erase", "--file", str(file))
    assert [one["new"] for one in answer["requests"]] == [True, False]
    assert answer["requests"][1]["request_id"] == str(request.request_id)
    assert len(place.steps(UUID(answer["requests"][0]["request_id"]))) == 2


def link(place: Place, *users: str) -> dict[str, UUID]:
    subjects = {user: uuid4() for user in users}
    rows = [(place.person(user), subject, 1) for user, subject in subjects.items()]
    place.client.execute("INSERT INTO subjects (alias, subject, version) VALUES", rows)
    return subjects


def test_everyone_takes_a_confirmation(place: Place) -> None:
    link(place, "a", "b", "c")
    place.client.execute("INSERT INTO subjects (alias, subject, version) VALUES", [(place.person("c"), UUID(int=0), 2)])
    code, _, err = place.run("erase", "--everyone", "--origin", "shutdown")
    assert code != 0
    assert "erase all 2 people" in err
    answer = place.json("erase", "--everyone", "--yes")
    assert (answer["asked"], answer["origin"]) == (2, "shutdown")
    told = [r for r in place._read(ERASURE_REQUESTS) if r[0] in (place.person("a"), place.person("b"))]
    assert sorted(record["step"] for _, record in told) == ["received", "received", "verified", "verified"]
    assert {record["origin"] for _, record in told} == {"shutdown"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give one of USER"),
        (("u-1", "--everyone"), "give one of USER"),
        (("u-1", "--unverified", "--verified-by", "x"), "contradict"),
    ],
)
def test_what_cannot_be_meant_is_refused(place: Place, arguments: tuple[str, ...], says: str) -> None:
    code, _, err = place.run("erase", *arguments)
    assert code == 2
    assert says in err


def test_the_user_id_must_not_be_kept_in_a_text(place: Place) -> None:
    assert "no personal values" in place.refused(
        "erase", "anna@example.org", "--verified-by", "mail from ANNA@example.org"
    )


# --- whom it would reach, and how


@pytest.fixture
def registered(place: Place) -> str:
    """A prefix that no other test has; registered with it: a partner, an authority, and one more partner."""
    prefix = f"r{uuid4().hex[:8]}"
    common = "effective_at: 2020-01-01T00:00:00Z, purposes: [service], categories: [user.device], country: CN"
    file = place.settings.data / "registry.yaml"
    file.write_text(
        "recipients:\n"
        f"  - {{id: {prefix}-near, kind: partner, name: Near, contact: dpo@near.example, {common}}}\n"
        f"  - {{id: {prefix}-far, kind: partner, name: Far, contact: dpo@far.example, {common}}}\n"
        f"  - {{id: {prefix}-tax, kind: authority, name: Tax, contact: tax@example.org, {common}}}\n"
    )
    code, _, err = place.run("recipients", "publish", str(file))
    assert code == 0, err
    return prefix


def disclose(place: Place, subject: UUID, discloser: str, recipient: str | None, activity: str = "share") -> None:
    place.client.execute(
        "INSERT INTO lineage (subject, event_id, occurred_at, activity, discloser, recipient, verdict, kafka_offset) "
        "VALUES",
        [(subject, uuid4(), datetime.now(UTC), activity, discloser, recipient, "lawful", next(place.versions))],
    )


def test_a_dry_run_tells_whom_it_would_reach_and_changes_nothing(place: Place, registered: str) -> None:
    subject = link(place, "u-9")["u-9"]
    disclose(place, subject, "self", f"{registered}-near")
    disclose(place, subject, f"{registered}-near", f"{registered}-far")
    disclose(place, subject, "self", f"{registered}-tax")
    disclose(place, subject, "self", None, "publish")
    intake = ErasureIntake(place.settings.kafka())
    given = [Identity("email", "sha256", "ab" * 32), Identity("controller_customer_id", "raw", "u-9")]
    pepper, key = place.settings.pepper(), place.settings.controller_public_key()
    intake.add_identities(key, place.person("u-9"), given, pepper=pepper)
    intake.close()
    entry = f"recipients:\n  {registered}-near: {{protocol: manual, contact: a@near.example}}\n"
    (place.settings.data / "connectors.yaml").write_text(entry)
    answer = place.json("erase", "u-9", "--dry-run")
    assert (answer["people"], answer["known"], answer["request_id"]) == (1, 1, None)
    assert answer["identifiers"] == ["controller_customer_id", "email (sha256)"]
    told = {t["recipient"]: (t["hop"], t["protocol"], t["state"]) for t in answer["targets"]}
    assert told[f"{registered}-near"] == (1, "manual", "waiting")
    assert told[f"{registered}-far"] == (2, "manual", "waiting")
    assert told[f"{registered}-tax"] == (1, "none", "exempt")
    assert told["public"][0] == 1
    assert told["store:lineage"] == (0, "purge", "waiting")
    code, out, _ = place.run("erase", "u-9", "--dry-run")
    assert code == 0
    assert "nothing was changed" in out
    assert "u-9" not in out
    assert not [key for key, _ in place._read(ERASURE_REQUESTS) if key == place.person("u-9")]


def test_a_dry_run_of_everyone_counts_people(place: Place, registered: str) -> None:
    for subject in link(place, "d", "e").values():
        disclose(place, subject, "self", f"{registered}-near")
    answer = place.json("erase", "--everyone", "--dry-run")
    assert (answer["people"], answer["known"], answer["identifiers"]) == (2, 2, None)
    assert [t["people"] for t in answer["targets"] if t["recipient"] == f"{registered}-near"] == [2]


def test_connectors_are_checked(place: Place, registered: str) -> None:
    file = place.settings.data / "connectors.yaml"
    file.write_text(
        "recipients:\n"
        f"  {registered}-near: {{protocol: opendsr, url: 'https://dsr.near.example/v2', domain: near.example}}\n"
        "  stranger: {protocol: manual, contact: a@stranger.example}\n"
    )
    answer = place.json("connectors", "check")
    told = {one["recipient"]: one for one in answer["recipients"]}
    assert (told[f"{registered}-near"]["protocol"], told[f"{registered}-near"]["configured"]) == ("opendsr", True)
    assert (told[f"{registered}-far"]["protocol"], told[f"{registered}-far"]["configured"]) == ("manual", False)
    assert told[f"{registered}-far"]["detail"] == "a person asks dpo@far.example"
    assert told[f"{registered}-tax"]["exempt"]
    assert answer["unregistered"] == ["stranger"]
    code, out, err = place.run("connectors", "check")
    assert code == 0
    assert "not asked" in out
    assert "stranger has an entry" in err
    # Nobody is there: the name leads nowhere.
    code, out, _ = place.run("connectors", "check", "--ask")
    assert code == 1
    assert "cannot be asked: cannot be reached" in out
    file.write_text(f"recipients:\n  {registered}-near: {{protocol: carrier-pigeon}}\n")
    assert "carrier-pigeon" in place.refused("connectors", "check")


# --- requests


def test_the_queue_shows_what_needs_attention_first(asked: Place) -> None:
    calm = waiting(asked, "u-a")
    late = waiting(asked, "u-b", due_at=NOW - 2 * DAY)
    ended = asked.put(Request(uuid4(), NOW - 9 * DAY, state="completed", ended_at=NOW, verified_at=NOW - 8 * DAY))
    told = asked.json("requests")
    assert [one["request_id"] for one in told["requests"]] == [str(late.request_id), str(calm.request_id)]
    assert "the term is over" in told["requests"][0]["warnings"][0]
    assert len(asked.json("requests", "--all")["requests"]) == 3
    assert [one["request_id"] for one in asked.json("requests", "--state", "completed")["requests"]] == [
        str(ended.request_id)
    ]
    code, out, _ = asked.run("requests")
    assert code == 0
    assert "over by 2 days" in out
    assert f"! {late.request_id}: the term is over" in out
    assert "lumen-analytics, old-agency" in out


def test_an_empty_queue_says_so(asked: Place) -> None:
    assert asked.json("requests") == {"requests": []}
    assert "no open requests" in asked.run("requests")[1]


def test_one_request_with_targets_and_history(asked: Place) -> None:
    request = waiting(asked)
    told = asked.json("requests", str(request.request_id))
    assert told["verified_by"] == "one-time code"
    assert told["targets"][1]["hop"] == 2
    code, out, _ = asked.run("requests", str(request.request_id))
    assert code == 0
    for part in ("awaiting", "acknowledged", "received (person)", "22 days left", "lineage requests task"):
        assert part in out
    assert "no erasure request" in asked.refused("requests", str(uuid4()))


def test_nothing_shown_ties_a_request_to_a_person(asked: Place) -> None:
    request = waiting(asked)
    shown = "".join(asked.run("requests", str(request.request_id), *more)[1] for more in ((), ("--json",)))
    assert request.alias is not None
    assert request.subject is not None
    for secret in (request.alias.hex(), str(request.subject), request.subject.hex, "u-17"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("arguments", "changes", "step", "told"),
    [
        (("verify", "--how", "video call"), {"verified_at": None}, "verified", {"verified_by": "video call"}),
        (("cancel",), {"targets": ()}, "cancelled", {"ground": "withdrawn"}),
        (("refuse", "--ground", "no proof"), {"targets": ()}, "refused", {"ground": "no proof"}),
        (("hold", "--ground", "court order"), {}, "held", {"ground": "court order"}),
        (("release",), {"hold": "court order"}, "released", {}),
    ],
)
def test_what_a_person_decides_is_told(
    place: Place, arguments: tuple[str, ...], changes: dict[str, Any], step: str, told: dict[str, str]
) -> None:
    request = waiting(place, **changes, origin="leave")
    command, *options = arguments
    answer = place.json("requests", command, str(request.request_id), *options)
    assert answer["request_id"] == str(request.request_id)
    [one] = place.steps(request.request_id)
    assert (one["step"], one["alias"], one["origin"]) == (step, request.alias, "leave")
    assert told.items() <= one.items()


@pytest.mark.parametrize(
    ("arguments", "changes", "says"),
    [
        (("verify", "--how", "x"), {}, "verified already"),
        (("cancel",), {}, "recipients have been asked"),
        (("refuse", "--ground", "x"), {}, "recipients have been asked"),
        (("release",), {}, "no hold is on it"),
        (("hold", "--ground", "x"), {"state": "cancelled", "ended_at": NOW}, "does not change any more"),
        (("confirm", "nobody"), {}, "there is: lumen-analytics, old-agency"),
        (("retry", "store:lineage"), {}, "no recipient of that name"),
    ],
)
def test_what_cannot_be_done_is_said_and_not_told(
    place: Place, arguments: tuple[str, ...], changes: dict[str, Any], says: str
) -> None:
    request = waiting(place, **changes)
    command, *options = arguments
    assert says in place.refused("requests", command, str(request.request_id), *options)
    assert place.steps(request.request_id) == place.receipts(request.request_id) == []


def test_a_joined_request_passes_on_to_the_one_that_answers(asked: Place) -> None:
    main_one = waiting(asked)
    joined = asked.put(Request(uuid4(), NOW, state="joined", joined=main_one.request_id, ended_at=NOW))
    answer = asked.json("requests", "hold", str(joined.request_id), "--ground", "court order")
    assert answer["request_id"] == str(main_one.request_id)
    assert len(asked.steps(main_one.request_id)) == 1
    assert f"answered by {main_one.request_id}" in asked.run("requests", "--all")[1]


def test_retry_confirm_and_exempt_are_receipts(place: Place) -> None:
    request = waiting(place)
    name = str(request.request_id)
    place.json("requests", "retry", name)
    place.json("requests", "retry", name, "lumen-analytics")
    place.json("requests", "confirm", name, "old-agency", "--note", "e-mail of 3 May")
    place.json("requests", "exempt", name, "lumen-analytics", "--ground", "tax law")
    told = [
        (r["target"], r["answer"], r["grade"], r["source"], r["detail"], r["ground"])
        for r in place.receipts(request.request_id)
    ]
    assert told == [
        ("lumen-analytics", "retry", "none", "operator", "", ""),
        ("old-agency", "retry", "none", "operator", "", ""),
        ("lumen-analytics", "retry", "none", "operator", "", ""),
        ("old-agency", "completed", "claimed", "manual", "confirmed to a person: e-mail of 3 May", ""),
        ("lumen-analytics", "exempt", "none", "operator", "", "tax law"),
    ]
    confirmed = place.receipts(request.request_id)[3]
    assert UUID(bytes=confirmed["idempotency_key"]) == idempotency_key(request.request_id, "old-agency", 1)


def test_the_api_and_the_pages_tell_the_same_and_who_it_was(asked: Place) -> None:
    request = waiting(asked)
    joined = asked.put(Request(uuid4(), NOW, state="joined", joined=request.request_id, ended_at=NOW))
    over = asked.put(Request(uuid4(), NOW, state="completed", ended_at=NOW, targets=waiting(asked).targets))
    url = os.environ["LINEAGE_API_URL"]
    token = create_token(asked.settings.api_clients(), "eve", ["eraser"])
    with httpx.Client(base_url=f"{url}/api/v1/requests", headers={"Authorization": f"Bearer {token}"}) as api:

        def post(of: Request, act: str, status: int = 200, **body: Any) -> Any:
            answer = api.post(f"/{of.request_id}/{act}", json=body)
            assert answer.status_code == status, answer.text
            return answer.json()

        both = {"request_id": str(request.request_id), "recipients": ["lumen-analytics", "old-agency"]}
        assert post(request, "retry") == post(joined, "retry") == both
        post(request, "exempt", recipient="lumen-analytics", ground="tax law")
        unknown = post(request, "confirm", 404, recipient="nobody-at-all")["error"]
        assert unknown["code"] == "not_found"
        assert "there is: lumen-analytics, old-agency" in unknown["message"]
        assert "nobody" not in unknown["message"]
        old = str(idempotency_key(request.request_id, "old-agency", 0))
        earlier = post(request, "confirm", 409, recipient="old-agency", reference=old)["error"]
        assert (earlier["code"], "got more data since" in earlier["message"]) == ("conflict", True)
        assert "does not change any more" in post(over, "retry", 409)["error"]["message"]
    page = f"/erasures/{request.request_id}"
    with httpx.Client(base_url=url, headers={"Origin": url}) as browser:
        browser.post("/sign-in", data={"token": token})
        assert "Do something about a recipient" in browser.get(page).text
        confirmed = browser.post(f"{page}/confirm", data={"recipient": "old-agency", "note": "e-mail  of 3 May"})
        assert (confirmed.status_code, confirmed.headers["location"]) == (303, f"{page}?told=confirm")
        assert "word is taken down" in browser.get(confirmed.headers["location"]).text
        assert browser.post(f"{page}/retry", data={"recipient": ""}).status_code == 303
        for act, data, status in (
            ("confirm", {"recipient": "old-agency", "reference": "7"}, 400),
            ("confirm", {"recipient": "old-agency", "reference": old}, 409),
            ("confirm", {}, 404),
            ("exempt", {"recipient": "old-agency", "ground": " "}, 409),
            ("exempt", {"recipient": "old-agency", "ground": "x" * 301}, 400),
        ):
            assert browser.post(f"{page}/{act}", data=data).status_code == status, (act, data)
        assert browser.post(f"{page}/retry", headers={"Origin": "https://elsewhere.example"}).status_code == 403
        # Who may not act sees how it stands, and no form.
        browser.post("/sign-in", data={"token": create_token(asked.settings.api_clients(), "joe", ["auditor"])})
        assert "/retry" not in browser.get(page).text
        assert browser.post(f"{page}/retry").status_code == 403
    told = [(r["target"], r["answer"], r["detail"], r["ground"]) for r in asked.receipts(request.request_id)]
    again = [("lumen-analytics", "retry", "eve", ""), ("old-agency", "retry", "eve", "")]
    assert told == [
        *again,
        *again,
        ("lumen-analytics", "exempt", "exempted by eve", "tax law"),
        ("old-agency", "completed", "confirmed to eve: e-mail of 3 May", ""),
        *again,
    ]


def test_an_answer_to_an_earlier_round_confirms_nothing(place: Place) -> None:
    request = waiting(place)
    old, new = (idempotency_key(request.request_id, "old-agency", round_) for round_ in (0, 1))
    told = place.refused("requests", "confirm", str(request.request_id), "old-agency", "--reference", str(old))
    assert str(new) in told
    assert place.receipts(request.request_id) == []


def test_the_controller_is_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes while the command waits is what the command shows."""
    request = waiting(place)
    monkeypatch.setattr("infra.cli.erasure_queue.SHOWN_SECONDS", 30.0)
    slept: list[float] = []

    def take(seconds: float) -> None:
        slept.append(seconds)
        waiting(place, hold="court order", state="awaiting")
        place.put(Request(**{**vars(request), "hold": "court order", "version": request.version + 1}))

    monkeypatch.setattr("infra.cli.erasure_queue.time.sleep", take)
    answer = place.json("requests", "hold", str(request.request_id), "--ground", "court order")
    assert answer["hold"] == "court order"
    assert len(slept) == 1


# --- manual tasks


def test_a_task_names_the_person_for_this_moment_only(place: Place, tmp_path: Path) -> None:
    request = waiting(place)
    assert request.alias is not None
    intake = ErasureIntake(place.settings.kafka())
    given = [Identity("email", "raw", "anna@example.org"), Identity("controller_customer_id", "raw", "u-17")]
    pepper, key = place.settings.pepper(), place.settings.controller_public_key()
    intake.add_identities(key, request.alias, given, pepper=pepper)
    intake.close()
    message = place.json("requests", "task", str(request.request_id), "old-agency")
    reference = idempotency_key(request.request_id, "old-agency", 1)
    assert "anna@example.org" in message["text"]
    assert f"Reference: {reference}" in message["text"]
    file = tmp_path / "mail.txt"
    code, out, err = place.run("requests", "task", str(request.request_id), "old-agency", "--output", str(file))
    assert (code, out) == (0, "")
    assert "delete it once it is sent" in err
    assert file.read_text().startswith("To: ")
    assert file.stat().st_mode & 0o777 == 0o600
    assert not [path for path, content in contents(place.settings.data) if b"anna@example.org" in content]


def test_no_task_while_it_is_held_or_done(place: Place) -> None:
    held = waiting(place, hold="court order")
    assert "held" in place.refused("requests", "task", str(held.request_id), "old-agency")
    done = waiting(place, "u-18", targets=(Target("old-agency", 1, "completed", "claimed"),))
    assert "nobody needs to ask" in place.refused("requests", "task", str(done.request_id), "old-agency")


# --- certificate show


def certified(place: Place) -> tuple[Request, str]:
    request = waiting(place)
    done = tuple(Target(t.id, t.hop, "completed", "claimed", t.protocol, ended_at=NOW) for t in request.targets)
    over = {**vars(request), "state": "completed", "erased_at": NOW - 1000, "ended_at": NOW, "targets": done}
    ended = Request(**over)
    key = load_signing_key(place.settings.certificate_key())
    text = sign(certificate(to_record(ended), [ErasedPlace("lineage", 12, 0)], "aoxun.example", NOW), key)
    return place.put(Request(**{**over, "alias": None, "subject": None, "certificate": text})), text


def test_a_certificate_is_shown_written_and_verified(asked: Place, tmp_path: Path) -> None:
    request, text = certified(asked)
    code, out, err = asked.run("certificate", "show", str(request.request_id))
    assert (code, out) == (0, text + "\n")
    assert "12 rows erased, 0 left" in err
    file = tmp_path / "certificate.jws"
    asked.run("certificate", "show", str(request.request_id), "--output", str(file))
    told = asked.json("certificate", "verify", str(file))
    assert (told["valid"], told["trusted"], told["request_id"]) == (True, True, str(request.request_id))
    shown = asked.json("certificate", "show", str(request.request_id))
    assert shown["claims"]["state"] == "completed"
    assert asked.json("requests", str(request.request_id))["certificate"] == text


def test_what_is_not_over_has_no_certificate(asked: Place) -> None:
    request = waiting(asked)
    assert "awaiting and has no certificate yet" in asked.refused("certificate", "show", str(request.request_id))
