"""The shipped vendor documents: recorded exchanges, and what vendors' answers become, over a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web

from processors.erasure_commands import Grade
from schemas import schema_dir
from sinks.recipients.document_file import DocumentError, load_document
from sinks.recipients.documents import document_connector
from sinks.recipients.transport import Transport
from tests.unit.vendor_server import (
    ALL,
    KEY,
    Diverted,
    command,
    identity,
    played,
    serving,
)

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "rudder-delete-users"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded exchanges are not beside the project")
SHIPPED = sorted(path.stem for path in (schema_dir() / "connectors" / "documents").glob("*.yaml"))


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


def test_the_guides_example_is_a_document_and_its_table_is_whole(tmp_path: Path) -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "vendor-documents.md").read_text(encoding="utf-8")
    example = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)[1]
    (tmp_path / "crm.yaml").write_text(example)
    secrets = {"client_id": "i", "client_secret": "s"}
    document_connector(tmp_path / "crm.yaml", {"eu_account": "a"}, secrets, Transport())
    rows = dict(re.findall(r"^\| `([a-z-]+)` \|(.*)$", guide, re.MULTILINE))
    assert set(SHIPPED) <= rows.keys()
    for name in SHIPPED:
        told = rows["appsflyer"] if "| the same |" in rows[name] else rows[name]
        document = load_document(name)
        for each in (*document.get("settings", {}), *document["secrets"]):
            assert f"`{each}`" in told


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
