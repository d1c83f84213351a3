"""HTTP by document: the shipped documents, and what vendors' recorded answers become, over a real server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote
from uuid import UUID

import pytest
import yaml
from aiohttp import web

from processors.erasure_commands import Answer, Command, Grade
from schemas import schema_dir
from sinks.recipients.configuration import ConfigurationError, KafkaTarget, ManualTask, load_connectors
from sinks.recipients.connector import CallbackRefused
from sinks.recipients.document_file import DocumentError, load_document
from sinks.recipients.documents import DocumentConnector, document_connector
from sinks.recipients.transport import Reply, Transport

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "rudder-delete-users"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded exchanges are not beside the project")
SHIPPED = sorted(path.stem for path in (schema_dir() / "connectors" / "documents").glob("*.yaml"))
KEY = UUID("f31a16f4-2357-47b5-aba0-d83742f2fd66")
SUBMITTED = 1_672_059_087_570
SETTINGS: dict[str, dict[str, str]] = {
    "appsflyer": {"android_app_id": "AnAID", "apple_app_id": "123456789"},
    "appsflyer-opengdpr": {"android_app_id": "AnAID", "apple_app_id": "123456789"},
    "braze": {"data_center": "iad-03"},
    "mixpanel": {"project_token": "p"},
}


def identity(kind: str, value: str, form: str = "raw") -> dict[str, str]:
    return {"identity_type": kind, "identity_format": form, "identity_value": value}


ALL = (
    identity("controller_customer_id", "test_user_id"),
    identity("email", "a@example.org"),
    identity("android_advertising_id", "1665148898336-5539842602053895577"),
)


def command(*identities: dict[str, str]) -> Command:
    return Command(UUID(int=1), "vendor", KEY, 1, SUBMITTED, SUBMITTED + 30 * 86_400_000, identities=identities)


class Diverted(Transport):
    """Sends what goes to a vendor to a server on loopback instead, and keeps what it was asked to send."""

    def __init__(self, to: str) -> None:
        super().__init__(allow_private=True)
        self._to = to
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    async def request(self, method: str, url: str, *, headers: Any = None, body: bytes | None = None) -> Reply:
        sent = None if body is None else body.decode()
        self.asked.append(
            (method, url, dict(headers or {}), json.loads(sent) if (sent or "")[:1] in "{[" and sent else sent)
        )
        path = "/" + url.split("/", 3)[3]
        return await super().request(method, self._to + path, headers=headers, body=body)


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def played(
    document: str | Path,
    replies: Sequence[tuple[Any, ...]],
    *identities: dict[str, str],
    settings: dict[str, str] | None = None,
    reference: str | None = None,
) -> tuple[Answer, list[tuple[str, str, dict[str, str], Any]]]:
    """What a document makes of a vendor's replies, and what it asked."""
    left = list(replies)

    async def handler(request: web.Request) -> web.StreamResponse:
        status, body, *headers = left.pop(0)
        if isinstance(body, str):
            return web.Response(text=body, status=status, content_type="text/html")
        return web.json_response(body, status=status, headers=headers[0] if headers else None)

    async def play() -> tuple[Answer, list[tuple[str, str, dict[str, str], Any]]]:
        async with serving(handler) as url:
            transport = Diverted(url)
            read = load_document(document)
            secrets = {name: f"secret-{name}" for name in read.get("secrets", [])}
            given = SETTINGS.get(str(document), {}) if settings is None else settings
            connector = document_connector(document, given, secrets, transport)
            asked = command(*identities)
            said = await (connector.dispatch(asked) if reference is None else connector.check(asked, reference))
            await connector.close()
            return said, transport.asked

    return asyncio.run(play())


def recorded(vendor: str, case: int, place: int = 0) -> tuple[str, str, Any, int, Any]:
    """Method, URL and body that were sent, status and body that came back."""
    exchange = json.loads((RECORDED / vendor / "nw_client_data.json").read_text())[case][place]
    url, body, *_ = exchange["reqParams"]
    response = exchange["response"]
    inner = response.get("response", response)
    return exchange["type"].upper(), url, body, inner["status"], inner.get("data", {})


# The recorded exchanges


@needs_recorded
@pytest.mark.parametrize(
    ("case", "kind", "outcome"), [(0, "android_advertising_id", "retry"), (1, "ios_advertising_id", "acknowledged")]
)
def test_appsflyer_as_recorded(case: int, kind: str, outcome: str) -> None:
    """Recorded: an application id of another account, which is mended in the settings; and an acceptance."""
    method, url, body, status, answer = recorded("af", case)
    said, [(asked_method, asked_url, _, asked_body)] = played(
        "appsflyer-opengdpr", [(status, answer)], identity(kind, "1665148898336-5539842602053895577")
    )
    assert (asked_method, asked_url) == (method, url.replace("dummyApiToken", "secret-api_token"))
    assert asked_body == body
    assert said.outcome == outcome
    assert said.reference == (str(KEY) if outcome == "acknowledged" else "")


@needs_recorded
@pytest.mark.parametrize(
    ("vendor", "name", "field", "outcomes"),
    [
        # Recorded as successful; here: what was done, and what is only scheduled, or known to nobody.
        ("braze", "braze", "external_ids", {(0, 0): "failed", (0, 1): "completed", (1, 0): "completed"}),
        ("am", "amplitude", "user_ids", {(0, 0): "retry", (0, 1): "completed", (1, 0): "acknowledged"}),
    ],
)
def test_braze_and_amplitude_as_recorded(
    vendor: str, name: str, field: str, outcomes: dict[tuple[int, int], str]
) -> None:
    """The recorded bodies hold one placeholder for a batch, under a name that neither vendor documents; one command is
    one person."""
    for (case, place), outcome in outcomes.items():
        method, url, batch, status, answer = recorded(vendor, case, place)
        said, [(asked_method, asked_url, headers, body)] = played(name, [(status, answer)], *ALL)
        assert (asked_method, asked_url) == (method, url)
        assert [len(ids) for ids in batch.values()] == [1]
        assert body[field] == ["test_user_id"]
        assert headers["Authorization"].startswith("Bearer " if vendor == "braze" else "Basic ")
        assert said.outcome == outcome
        if vendor == "am" and outcome == "completed":
            assert said.detail == "not known there"


@needs_recorded
@pytest.mark.parametrize("vendor", ["af", "am", "braze"])
def test_every_recorded_request_is_answered_as_it_was(vendor: str) -> None:
    """Of each recorded input: refused before anything is sent (missing settings, keys, identifiers), or sent."""
    inputs = json.loads((RECORDED / vendor / "handler_input.json").read_text())
    outputs = json.loads((RECORDED / vendor / "handler_output.json").read_text())
    compared = 0
    for given, [output] in zip(inputs, outputs, strict=False):
        [asked] = given["request"]["body"]
        said = as_recorded_input(vendor, asked.get("config"), asked["userAttributes"])
        if output.get("status") == "successful":
            # An unknown person is no error there; here nobody could be asked.
            assert set(said) <= {"sent", "unsupported"}
        elif output["error"] == "User deletion request failed":
            assert "sent" in said
        elif "callBackUrls" in output["error"]:
            # We give none: AppsFlyer is asked how it stands.
            continue
        else:
            assert said[0] != "sent"
        compared += 1
    assert compared


def as_recorded_input(vendor: str, config: dict[str, str] | None, people: list[dict[str, str]]) -> list[str]:
    """What becomes of each person of a recorded input, in its first word."""
    config = config or {}
    document, words, given_secrets = {
        "af": ("appsflyer-opengdpr", {"androidAppId": "android_app_id", "appleAppId": "apple_app_id"}, ["apiToken"]),
        "am": ("amplitude", {}, ["apiKey", "apiSecret"]),
        "braze": ("braze", {"dataCenter": "data_center"}, ["restApiKey"]),
    }[vendor]
    settings = {ours: config[theirs] for theirs, ours in words.items() if theirs in config}
    declared = load_document(document)["secrets"]
    secrets = {ours: config[theirs] for ours, theirs in zip(declared, given_secrets, strict=True) if theirs in config}
    kinds = {"userId": "controller_customer_id", "email": "email"}
    kinds |= {kind: kind for kind in ("android_advertising_id", "ios_advertising_id")}

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=200)

    async def play() -> list[str]:
        async with serving(handler) as url:
            transport = Diverted(url)
            try:
                connector = document_connector(document, settings, secrets, transport)
            except DocumentError:
                return ["refused"]
            outcomes: list[str] = []
            for person in people:
                known = [identity(kinds[key], value) for key, value in person.items() if key in kinds]
                before = len(transport.asked)
                said = await connector.dispatch(command(*known))
                outcomes.append("sent" if len(transport.asked) > before else said.outcome)
            await connector.close()
            return outcomes

    return asyncio.run(play())


def test_what_is_missing_is_told_before_anything_is_sent() -> None:
    with pytest.raises(DocumentError, match=r"settings\.data_center is missing: The REST"):
        document_connector("braze", {}, {"api_key": "x"}, Transport())
    with pytest.raises(DocumentError, match=r"secrets\.api_key is missing"):
        document_connector("amplitude", {}, {"api_secret": "x"}, Transport())
    with pytest.raises(DocumentError, match=r"one of settings\.android_app_id, settings\.apple_app_id is needed"):
        document_connector("appsflyer", {}, {"api_token": "x"}, Transport())
    with pytest.raises(DocumentError, match=r"settings\.data_centre"):
        document_connector("braze", {"data_center": "x", "data_centre": "y"}, {"api_key": "k"}, Transport())
    with pytest.raises(DocumentError, match=r"secrets\.apikey is none of api_key"):
        document_connector("braze", {"data_center": "x"}, {"api_key": "k", "apikey": "k"}, Transport())
    with pytest.raises(DocumentError, match=r"compliance_type is none of GDPR, CCPA"):
        document_connector(
            "mixpanel", {"project_token": "x", "compliance_type": "PIPL"}, {"oauth_token": "k"}, Transport()
        )
    with pytest.raises(DocumentError, match="shipped documents: amplitude"):
        document_connector("brazen", {}, {}, Transport())
    said, asked = played("appsflyer", [], identity("android_advertising_id", "1234"), settings={"apple_app_id": "x"})
    assert (said.outcome, asked) == ("retry", [])
    assert "settings.android_app_id" in said.detail
    said, asked = played("appsflyer", [], identity("email", "testUser@testMail.com"))
    assert (said.outcome, asked) == ("unsupported", [])
    assert "testUser" not in said.detail


# The shipped documents


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_document_sends_what_its_vendor_wants(name: str) -> None:
    document = load_document(name)
    found = {"data": [{"id": "c1"}], "result": {"a@example.org": {"contact": {"id": "c1", "email": "A@example.org"}}}}
    replies = [(200, found)] if "lookup" in document else []
    known = {one["type"] for one in document["identities"]}
    best = next(one for one in (ALL[1], *ALL) if one["identity_type"] in known)
    said, asked = played(name, [*replies, (418, {})], best)
    method, url, headers, body = asked[-1]
    assert method in ("POST", "DELETE")
    assert url.startswith("https://")
    assert "{" not in url
    assert "{{" not in json.dumps(body)
    assert "secret-" in url + json.dumps(headers) or b"secret-" in base64.b64decode(headers["Authorization"][6:])
    assert best["identity_value"] in json.dumps([body, unquote(url)]) or "c1" in url
    assert (said.outcome, said.detail) == ("failed", "refused: HTTP 418")
    assert document["evidence"].startswith("Claimed.")


@pytest.mark.parametrize(
    ("name", "reply", "outcome"),
    [
        ("mixpanel", (200, {"results": {"status": "SUCCESS"}}), "completed"),
        ("mixpanel", (200, {"results": {"status": "PENDING"}}), "acknowledged"),
        ("segment", (200, {"data": {"regulation": {"overallStatus": "FINISHED"}}}), "completed"),
        ("segment", (200, {"data": {"regulation": {"overallStatus": "PARTIAL_SUCCESS"}}}), "failed"),
        ("segment", (200, {"data": {"regulation": {"overallStatus": "RUNNING"}}}), "acknowledged"),
        ("segment", (200, {"data": {}}), "retry"),
        ("sendgrid", (200, {"status": "completed"}), "completed"),
        ("sendgrid", (200, {"status": "pending"}), "acknowledged"),
        ("appsflyer", (200, {"request_status": "in_progress"}), "acknowledged"),
        ("appsflyer", (200, {"request_status": "completed"}), "completed"),
        ("appsflyer-opengdpr", (200, {"request_status": "completed"}), "completed"),
        ("appsflyer-opengdpr", (200, "<html>completed</html>"), "retry"),
    ],
)
def test_asking_how_it_stands(name: str, reply: tuple[int, Any], outcome: str) -> None:
    said, [(method, url, _, _)] = played(name, [reply], *ALL, reference="job-7")
    assert (method, said.outcome) == ("GET", outcome)
    assert "job-7" in url
    assert said.grade == {"completed": Grade.claimed, "acknowledged": Grade.acknowledged}.get(outcome, Grade.none)
    assert said.reference == ("job-7" if outcome == "acknowledged" else "")


def test_a_job_is_found_among_those_of_others() -> None:
    """Amplitude lists every job of the days; somebody else's that is done proves nothing."""

    def job(requester: str, status: str) -> dict[str, Any]:
        return {"day": "2023-01-05", "status": status, "amplitude_ids": [{"amplitude_id": 1, "requester": requester}]}

    for jobs, outcome in [
        ([job("other", "done"), job(str(KEY), "staging")], "acknowledged"),
        ([job("other", "done")], "acknowledged"),
        ([job("other", "staging"), job(str(KEY), "done")], "completed"),
    ]:
        said, [(_, url, _, _)] = played("amplitude", [(200, jobs)], *ALL, reference="")
        assert said.outcome == outcome
        assert url.endswith("?start_day=2022-12-26&end_day=2023-01-25")


def test_braze_says_how_many_it_deletes() -> None:
    assert played("braze", [(201, {"deleted": 1, "message": "success"})], *ALL)[0].detail != "not known there"
    said, _ = played("braze", [(201, {"deleted": 0, "message": "success"})], *ALL)
    assert (said.outcome, said.grade, said.detail) == ("completed", Grade.claimed, "not known there")


def test_the_job_of_a_deletion_is_its_reference() -> None:
    said, _ = played("mixpanel", [(200, {"status": "ok", "results": {"task_id": "t 9"}})], *ALL)
    assert (said.outcome, said.reference, said.check_after) == ("acknowledged", "t%209", 86400)
    _, [(_, url, _, _)] = played("mixpanel", [(200, {})], *ALL, reference=said.reference)
    assert "/v3.0/t%209?" in url


@pytest.mark.parametrize("reply", [(404, {}), (200, {"data": {"regulation": {"overallStatus": "FAILED"}}})])
def test_a_job_that_came_to_nothing_is_sent_again(reply: tuple[int, Any]) -> None:
    said, asked = played("segment", [reply, (201, {"data": {"regulateId": "r2"}})], *ALL, reference="r1")
    assert [method for method, *_ in asked] == ["GET", "POST"]
    assert (said.outcome, said.reference) == ("acknowledged", "r2")
    # As without the vendor's id there is nothing to ask by.
    said, asked = played("segment", [(201, {"data": {"regulateId": "r2"}})], *ALL, reference="")
    assert ([method for method, *_ in asked], said.reference) == (["POST"], "r2")


def test_a_person_is_looked_up_page_by_page_and_each_that_is_found_is_deleted() -> None:
    first = {"data": [{"id": "c1"}], "pages": {"next": {"starting_after": "p2"}}}
    second = {"data": [{"id": "c2"}, {"id": "c1"}], "pages": {}}
    deleted = (200, {"deleted": True})
    said, asked = played("intercom", [(200, first), (200, second), deleted, deleted], ALL[1])
    assert [body["pagination"] for _, _, _, body in asked[:2]] == [
        {"per_page": 50},
        {"per_page": 50, "starting_after": "p2"},
    ]
    assert [one[:2] for one in asked[2:]] == [
        ("DELETE", "https://api.intercom.io/contacts/c1"),
        ("DELETE", "https://api.intercom.io/contacts/c2"),
    ]
    assert said.outcome == "completed"
    said, _ = played("intercom", [(200, first), (200, second), deleted, (404, {})], ALL[1])
    assert (said.outcome, said.detail) == ("completed", "Intercom says that the contact is deleted")
    said, _ = played("intercom", [(200, first), (200, second), deleted, (403, {})], ALL[1])
    assert said.outcome == "retry"
    # By its user id and by its e-mail address; both must be gone.
    said, asked = played("intercom", [(200, {"data": []}), (200, second), deleted, deleted], *ALL)
    assert [body["query"]["field"] for _, _, _, body in asked[:2]] == ["external_id", "email"]
    assert said.outcome == "completed"


def test_nobody_is_unknown_unless_the_vendor_says_so() -> None:
    said, asked = played("intercom", [(200, {"data": []})], ALL[1])
    assert (said.outcome, said.grade, said.detail, len(asked)) == ("completed", Grade.claimed, "not known there", 1)
    for reply in [
        (200, {"error": "try later"}),
        (200, "<html>"),
        (404, {}),
        (401, {}),
        (204, {}),
        (200, {"data": [{}]}),
    ]:
        said, _ = played("intercom", [reply], ALL[1])
        assert said.outcome == "retry", reply
    assert played("sendgrid", [(404, {"errors": []})], ALL[1])[0].detail == "not known there"


def test_who_was_not_looked_for_is_not_deleted() -> None:
    found = {"result": {"a@example.org": {"contact": {"id": "c9", "email": "aa@example.org"}}}}
    said, asked = played("sendgrid", [(200, found)], ALL[1])
    assert (said.detail, len(asked)) == ("not known there", 1)


def test_contacts_in_one_job() -> None:
    found = {"result": {"x": {"contact": {"id": "c1", "email": "a@example.org"}}, "y": {"error": "none"}}}
    said, asked = played("sendgrid", [(200, found), (202, {"job_id": "j1"})], ALL[1])
    assert asked[1][:2] == ("DELETE", "https://api.sendgrid.com/v3/marketing/contacts?ids=c1")
    assert (said.outcome, said.reference, said.check_after) == ("acknowledged", "j1", 300)


def test_more_pages_than_a_person_can_have() -> None:
    page = {"data": [], "pages": {"next": {"starting_after": "same"}}}
    said, asked = played("intercom", [(200, page)] * 60, ALL[1])
    assert (said.outcome, len(asked)) == ("retry", 50)


# What a document can say


DOCUMENT: dict[str, Any] = {
    "vendor": "Own",
    "documentation": "https://own.example/docs",
    "evidence": "its word",
    "secrets": ["id"],
    "identities": [{"type": "email", "format": "sha256"}, {"type": "controller_customer_id"}],
    "auth": {"bearer": "{{ secrets.id }}"},
    "request": {
        "url": "https://own.example/delete",
        "headers": {"Idempotency-Key": "{{ request.key }}"},
        "form": {"kind": "{{ identity.type }}", "value": "{{ identity.value }}", "form": "{{ identity.format }}"},
        "answers": [{"status": "2xx", "outcome": "acknowledged", "reference": "{{ answer.id }}", "check_after": 60}],
    },
}
CHECK = {
    "method": "GET",
    "url": "https://own.example/jobs/{{ reference }}",
    "answers": [
        {"status": 200, "where": {"done": True}, "outcome": "completed"},
        {"status": 200, "where": {"done": False}, "outcome": "acknowledged", "check_after": 60},
        {"status": 200, "outcome": "failed"},
    ],
}


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "own.yaml"
    document = {key: value for key, value in (DOCUMENT | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(document))
    return path


def request(**changes: Any) -> dict[str, Any]:
    kept: dict[str, Any] = {key: value for key, value in (DOCUMENT["request"] | changes).items() if value is not None}
    return kept


def test_each_identifier_by_itself_and_the_worst_answer_counts(tmp_path: Path) -> None:
    path = written(tmp_path, check=CHECK)
    said, asked = played(path, [(200, {"id": 1}), (200, {"id": 2})], *ALL)
    assert (said.outcome, said.reference, said.check_after) == ("acknowledged", "1 2", 60)
    forms = [dict(parse_qsl(body)) for *_, body in asked]
    assert {one["kind"]: (one["form"], one["value"]) for one in forms} == {
        "controller_customer_id": ("raw", "test_user_id"),
        "email": ("sha256", hashlib.sha256(b"a@example.org").hexdigest()),
    }
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in asked]
    assert len({*keys, str(KEY)}) == 3
    again = played(path, [(200, {"id": 1}), (200, {"id": 2})], *reversed(ALL))[1]
    assert {headers["Idempotency-Key"] for _, _, headers, _ in again} == set(keys)
    for replies, outcome in [([(200, {"id": 1}), (503, {})], "retry"), ([(400, {}), (200, {"id": 1})], "failed")]:
        assert played(path, replies, *ALL)[0].outcome == outcome


def test_one_request_has_the_commands_own_key(tmp_path: Path) -> None:
    _, [(_, _, headers, _)] = played(written(tmp_path), [(200, {})], ALL[0])
    assert headers["Idempotency-Key"] == str(KEY)


def test_jobs_end_together(tmp_path: Path) -> None:
    path = written(tmp_path, check=CHECK)
    for replies, outcome, reference in [
        ([(200, {"done": True}), (200, {"done": False})], "acknowledged", "b"),
        ([(200, {"done": True}), (200, {"done": True})], "completed", ""),
        # 1 is not true.
        ([(200, {"done": 1}), (200, {"done": False})], "failed", "b"),
        ([(503, {}), (200, {"done": True})], "retry", ""),
    ]:
        said, asked = played(path, replies, *ALL, reference="a b")
        assert [url[-1] for _, url, _, _ in asked] == ["a", "b"]
        assert (said.outcome, said.reference) == (outcome, reference)


def test_all_identifiers_in_one_request(tmp_path: Path) -> None:
    changes = {
        "send": "all",
        "identities": [{"type": "email"}, {"type": "android_advertising_id"}, {"type": "ios_vendor_id"}],
        "settings": {"note": {"description": "", "required": False}, "batch": {"description": "", "default": 7}},
        "request": request(
            form=None,
            json={
                "people": "{{ identities }}",
                "emails": "{{ known.email.raw }}",
                "vendor_ids": "{{ known.ios_vendor_id.raw? }}",
                "note": "{{ settings.note? }}",
                "callback": "{{ command.callback_url? }}",
                "text": "{{ settings.batch }}/{{ command.regulation }}",
                "batch": "{{ settings.batch }}",
            },
        ),
    }
    second = identity("email", "b@example.org")
    _, [(_, _, _, body)] = played(written(tmp_path, **changes), [(200, {})], *ALL, second)
    assert body == {
        "people": [ALL[1], ALL[2], second],
        "emails": ["a@example.org", "b@example.org"],
        "text": "7/pipl",
        "batch": 7,
    }


@pytest.mark.parametrize("value", ["a/b", "a b?c#d", "../../admin", "é", "%2e%2e", "x&y=z"])
def test_an_identifier_stays_within_its_place_in_the_url(value: str, tmp_path: Path) -> None:
    path = written(tmp_path, request=request(url="https://own.example/people/{{ identity.value }}/data", form=None))
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.raw_path)
        return web.json_response({"id": 1})

    async def play() -> None:
        async with serving(handler) as url:
            connector = document_connector(path, {}, {"id": "i"}, Diverted(url))
            assert (
                await connector.dispatch(command(identity("controller_customer_id", value)))
            ).outcome == "acknowledged"
            await connector.close()

    asyncio.run(play())
    assert [unquote(part) for part in seen[0].split("/")] == ["", "people", value, "data"]


@pytest.mark.parametrize("value", [".", "..", "x\r\nX-Admin: 1", "\ud800"])
def test_an_identifier_that_cannot_be_sent_is_not(value: str, tmp_path: Path) -> None:
    url = "https://own.example/people/{{ identity.value }}"
    path = written(tmp_path, request=request(url=url, form=None, headers={"X-Person": "{{ identity.value }}"}))
    said, asked = played(path, [], identity("controller_customer_id", value))
    assert (said.outcome, asked) == ("failed", [])
    assert "X-Admin" not in said.detail


def test_as_the_vendor_wishes(tmp_path: Path) -> None:
    path = written(tmp_path, check=CHECK)
    for status, reply, (check_after, retry_after) in [
        (429, {}, (None, 77.0)),
        (503, {}, (None, 77.0)),
        (409, {}, (None, 77.0)),
        (202, {"id": 1}, (77.0, None)),
    ]:
        said, _ = played(path, [(status, reply, {"Retry-After": "77"})], ALL[0])
        assert (said.check_after, said.retry_after) == (check_after, retry_after)


def test_what_may_be_kept_and_why_but_no_identifiers(tmp_path: Path) -> None:
    answers = [{"status": 200, "outcome": "exempt", "ground": "{{ answer.why }}", "reference": "{{ answer.who? }}"}]
    path = written(tmp_path, request=request(answers=answers))
    assert played(path, [(200, {"why": "tax law\n§ 147"})], ALL[0])[0].ground == "tax law § 147"
    said, _ = played(path, [(200, {"why": "TEST_USER_ID is a debtor", "who": "test_user_id"})], ALL[0])
    assert (said.ground, said.reference) == ("told in words that hold an identifier", "")
    assert len(played(path, [(200, {"why": "x" * 5000})], ALL[0])[0].ground) == 200


LOOKUP = {"method": "GET", "url": "https://own.example/find", "items": "people", "id": "id"}


def test_pages_by_url_and_by_number(tmp_path: Path) -> None:
    deletion = request(url="https://own.example/people/{{ found }}", form=None)
    by_url = {**LOOKUP, "next_url": "next", "query": {"q": "{{ identity.value }}"}}
    one = {"people": [{"id": 1}], "next": "https://own.example/find?page=2"}
    path = written(tmp_path, lookup=by_url, request=deletion)
    _, asked = played(path, [(200, one), (200, {"people": [{"id": 2}], "next": None}), (200, {}), (200, {})], ALL[0])
    assert [url.partition("example/")[2] for _, url, _, _ in asked] == [
        "find?q=test_user_id",
        "find?page=2",
        "people/1",
        "people/2",
    ]
    for elsewhere in ("https://evil.example/find", "http://own.example/find", "//evil", "https://["):
        said, asked = played(path, [(200, {**one, "next": elsewhere})], ALL[0])
        assert (said.outcome, len(asked)) == ("retry", 1)
    by_number = {**LOOKUP, "query": {"page": "{{ page.number }}"}}
    path = written(tmp_path, lookup=by_number, request=deletion)
    _, asked = played(path, [(200, {"people": [{"id": 1}]}), (200, {"people": []}), (200, {})], ALL[0])
    assert [url.partition("example/")[2] for _, url, _, _ in asked] == ["find?page=1", "find?page=2", "people/1"]


def test_it_has_no_callbacks() -> None:
    async def play() -> None:
        connector = document_connector("braze", {"data_center": "iad-03"}, {"api_key": "k"}, Transport())
        assert connector.protocol == "http"
        with pytest.raises(CallbackRefused) as refused:
            await connector.callback({}, b"{}", "https://x.example")
        assert refused.value.status == 404

    asyncio.run(play())


# Who we are


@pytest.mark.parametrize(
    ("auth", "query", "header"),
    [
        ({"headers": {"X-Api-Key": "{{ secrets.id }}"}}, "", ("X-Api-Key", "top")),
        ({"basic": {"user": "{{ secrets.id }}"}}, "", ("Authorization", "Basic dG9wOg==")),
        ({"bearer": "{{ secrets.id }}"}, "", ("Authorization", "Bearer top")),
        ({"query": {"key": "{{ secrets.id }}"}}, "?key=top", ("Accept", "application/json")),
    ],
)
def test_ways_to_say_who_we_are(auth: Any, query: str, header: tuple[str, str], tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"id": 1})

    async def play() -> None:
        async with serving(handler) as url:
            transport = Diverted(url)
            connector = document_connector(written(tmp_path, auth=auth), {}, {"id": "top"}, transport, {"X-Own": "1"})
            await connector.dispatch(command(ALL[0]))
            await connector.close()
            [(_, asked, headers, _)] = transport.asked
            assert asked == f"https://own.example/delete{query}"
            assert headers[header[0]] == header[1]
            assert headers["X-Own"] == "1"

    asyncio.run(play())


class OAuth:
    """An authorization server (RFC 6749) and the API that takes its tokens."""

    def __init__(self, rotating: bool = False) -> None:
        self.rotating = rotating
        self.forms: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.valid: set[str] = set()
        self.refresh = "first"
        self.calls = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            form = dict(await request.post())
            self.forms.append(form)
            self.authorizations.append(request.headers.get("Authorization"))
            if form["grant_type"] == "refresh_token" and form["refresh_token"] != self.refresh:
                return web.json_response({"error": "invalid_grant"}, status=400)
            token = f"token-{len(self.forms)}"
            self.valid = {token}
            answer: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": 600}
            if self.rotating:
                self.refresh = answer["refresh_token"] = f"refresh-{len(self.forms)}"
            return web.json_response(answer)
        self.calls += 1
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.valid:
            return web.json_response({}, status=401)
        return web.json_response({"id": 5}, status=202)


def with_oauth(tmp_path: Path, **more: str) -> Path:
    oauth = {"token_url": "https://own.example/token", "client_id": "us", "client_secret": "{{ secrets.id }}", **more}
    return written(tmp_path, auth={"oauth2": oauth})


def test_tokens_are_fetched_once_kept_and_renewed(tmp_path: Path) -> None:
    server, now = OAuth(), [0.0]

    async def play() -> None:
        async with serving(server.handle) as url:
            document = load_document(with_oauth(tmp_path, grant_type="client_credentials", scope="erase"))
            connector = DocumentConnector(document, {}, {"id": "a&b"}, Diverted(url), clock=lambda: now[0])

            async def ask() -> None:
                assert (await connector.dispatch(command(ALL[0]))).reference == "5"

            await asyncio.gather(ask(), ask(), ask())
            assert len(server.forms) == 1
            assert server.forms[0] == {
                "grant_type": "client_credentials",
                "client_id": "us",
                "client_secret": "a&b",
                "scope": "erase",
            }
            now[0] = 539.0
            await ask()
            assert len(server.forms) == 1
            now[0] = 541.0
            await ask()
            assert len(server.forms) == 2
            # Revoked before its time: one new token, and the call once more.
            server.valid, server.calls = set(), 0
            await asyncio.gather(ask(), ask())
            assert (len(server.forms), server.calls) == (3, 4)
            await connector.close()

    asyncio.run(play())


def test_refresh_tokens_that_change_and_a_client_in_the_header(tmp_path: Path) -> None:
    server, now = OAuth(rotating=True), [0.0]

    async def play() -> None:
        async with serving(server.handle) as url:
            path = with_oauth(tmp_path, grant_type="refresh_token", refresh_token="first", client_auth="basic")
            connector = DocumentConnector(load_document(path), {}, {"id": "s:1"}, Diverted(url), clock=lambda: now[0])
            for at in (0.0, 541.0, 1082.0):
                now[0] = at
                assert (await connector.dispatch(command(ALL[0]))).outcome == "acknowledged"
            assert [form["refresh_token"] for form in server.forms] == ["first", "refresh-1", "refresh-2"]
            assert all(form.keys() == {"grant_type", "refresh_token"} for form in server.forms)
            assert server.authorizations[0] == "Basic " + base64.b64encode(b"us:s%3A1").decode()
            # Taken away: told with the code of the specification, and tried again with the secret's own.
            server.refresh, now[0] = "other", 5000.0
            said = await connector.dispatch(command(ALL[0]))
            assert (said.outcome, said.detail) == ("retry", "no access token: HTTP 400 (invalid_grant)")
            server.refresh = "first"
            assert (await connector.dispatch(command(ALL[0]))).outcome == "acknowledged"
            await connector.close()

    asyncio.run(play())


def test_a_token_that_is_never_taken_is_tried_twice(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return web.json_response({"access_token": "t"})
        return web.json_response({}, status=401)

    async def play() -> None:
        async with serving(handler) as url:
            transport = Diverted(url)
            path = with_oauth(tmp_path, grant_type="client_credentials")
            connector = document_connector(path, {}, {"id": "s"}, transport)
            assert (await connector.dispatch(command(ALL[0]))).outcome == "retry"
            assert [url.rpartition("/")[2] for _, url, _, _ in transport.asked] == ["token", "delete"] * 2
            await connector.close()

    asyncio.run(play())


# What is wrong in a document


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"request": request(answers=[{"status": 200, "outcome": "done"}])}, r"request\.answers\.0\.outcome"),
        ({"request": request(answers=[{"status": 200, "outcome": "send_again"}])}, r"request\.answers\.0\.outcome"),
        ({"request": request(answers=[{"status": 503, "outcome": "retry"}])}, r"request\.answers\.0\.status"),
        ({"request": request(answers=[{"status": 200, "outcome": "exempt"}])}, "ground"),
        ({"request": request(url="https://x.example/{{ unclosed")}, r"request\.url: a placeholder is not closed"),
        (
            {"request": request(url="https://{{ identity.value }}.example/")},
            r"request\.url: .* only settings name the host",
        ),
        ({"request": request(url="{{ secrets.id }}/x")}, r"request\.url: .* only settings name the host"),
        ({"request": request(url="ftp://own.example/")}, r"request\.url"),
        ({"request": request(json={}, form={})}, "request"),
        ({"identities": []}, "identities"),
        (
            {"identities": [{"type": "email", "with": {"a": "x"}}, {"type": "ios_vendor_id"}]},
            r"identities\.1\.with: a is",
        ),
        ({"identities": [{"type": "email", "with": {"value": "x"}}]}, r"with\.value has a name that is taken"),
        ({"sned": "all"}, "sned"),
        ({"send": "all"}, r"request\.form\.\w+: there is no {{ identity\.\w+ }}; here are: command, identities, known"),
        ({"auth": {"bearer": "{{ secrets.other }}"}}, r"auth\.bearer: there is no {{ secrets\.other }}; .*secrets\.id"),
        ({"auth": {"oauth2": {"token_url": "https://x.example", "grant_type": "refresh_token"}}}, "refresh_token"),
        (
            {"check": {**CHECK, "answers": [{"status": 200, "outcome": "acknowledged"}]}},
            r"check\.answers\.0: check_after",
        ),
        (
            {"check": {**CHECK, "url": "https://own.example/{{ identity.value }}"}},
            r"check\.url: there is no {{ identity",
        ),
        ({"request": request(form={"x": "{{ found }}"})}, r"request\.form\.x: there is no {{ found }}"),
        ({"lookup": {**LOOKUP, "next": "a", "next_url": "b"}}, "lookup"),
        ({"request": request(form=None, json={1: "x"})}, "a key is not a text"),
    ],
)
def test_what_is_wrong_in_a_document_is_told_with_its_place(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=told) as refused:
        document_connector(written(tmp_path, **changes), {}, {"id": "i"}, Transport())
    assert "own.yaml" in str(refused.value)


@pytest.mark.parametrize("text", ["vendor: [", "- a", "", "vendor: \x00"])
def test_what_is_no_document(text: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError, match=r"own\.yaml"):
        load_document(path)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ settings.__init__.__globals__ }}",
        "{{ 7 * 7 }}",
        "{{ secrets.id | upper }}",
        "{{ nothing }}",
        "{{ identity.missing }}",
        "{{ identity }}",
        "{{ }}",
    ],
)
def test_a_template_reaches_nothing_but_its_values(template: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"request\.form\.x"):
        load_document(written(tmp_path, request=request(form={"x": template})))


# connectors.yaml


def test_documents_in_connectors_yaml(tmp_path: Path) -> None:
    (tmp_path / "vendors").mkdir()
    written(tmp_path / "vendors")
    path = tmp_path / "connectors.yaml"
    entries = {
        "ads": {"protocol": "http", "document": "braze", "settings": {"data_center": "x"}, "secrets": {"api_key": "k"}},
        "own": {"protocol": "http", "document": "vendors/own.yaml", "secrets": {"id": "n"}, "headers": {"A": "1"}},
    }
    path.write_text(yaml.safe_dump({"recipients": entries}))
    connectors = load_connectors(path, lambda name: f"content of {name}")
    for name in entries:
        way = connectors.of(name)
        assert way is not None
        assert not isinstance(way, KafkaTarget | ManualTask)
        assert way.protocol == "http"
    del entries["ads"]["settings"]
    path.write_text(yaml.safe_dump({"recipients": entries}))
    with pytest.raises(ConfigurationError, match=r"recipients\.ads: Braze: settings\.data_center is missing"):
        load_connectors(path, lambda name: name)


def test_nothing_of_a_person_or_a_secret_shows(tmp_path: Path) -> None:
    asked = replace(command(*ALL), callback_url="https://own.example/callback")

    async def play() -> str:
        connector = document_connector(written(tmp_path), {}, {"id": "top-secret"}, Transport(allow_private=True))
        said = await connector.dispatch(asked)
        await connector.close()
        return repr(said) + repr(asked) + repr(connector)

    # own.example is nobody's.
    shown = asyncio.run(play())
    assert "top-secret" not in shown
    assert "test_user_id" not in shown
    assert "a@example.org" not in shown
