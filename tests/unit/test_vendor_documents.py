"""The shipped vendor documents: what they send, and what vendors' answers become, over a real server."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from processors.erasure_commands import Grade
from schemas import schema_dir
from sinks.recipients.document_file import DocumentError, load_document
from sinks.recipients.documents import document_connector
from sinks.recipients.transport import Transport
from tests.unit.vendor_server import (
    ALL,
    KEY,
    identity,
    played,
)

SHIPPED = sorted(path.stem for path in (schema_dir() / "connectors" / "documents").glob("*.yaml"))


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
    found = {"data": [{"id": "c1"}], "results": [{"id": "c1"}], "result": {"a@example.org": {"contact": {"id": "c1"}}}}
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
    assert best["identity_value"] in json.dumps([body, unquote(url)]) or "c1" in url + json.dumps(body)
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
        ("appsflyer", (200, {"request_status": "in-progress"}), "acknowledged"),
        ("appsflyer", (200, {"request_status": "completed"}), "completed"),
        ("appsflyer", (200, {"request_status": "canceled"}), "failed"),
        # Who may not ask knows nothing of the deletion.
        ("appsflyer", (400, {"error": {"code": 400, "af_gdpr_code": "e413"}}), "retry"),
        ("mixpanel", (400, {}), "retry"),
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


def test_braze_has_deleted_whom_it_finds_no_more() -> None:
    said, _ = played("braze", [(201, {"deleted": 1, "message": "success"})], *ALL)
    assert (said.outcome, said.check_after) == ("acknowledged", 21600)
    said, _ = played("braze", [(201, {"deleted": 0, "message": "success"})], *ALL)
    assert (said.outcome, said.grade, said.detail) == ("completed", Grade.claimed, "not known there")
    gone = {"message": "success", "users": [], "invalid_user_ids": ["test_user_id"]}
    said, [(method, url, _, body)] = played("braze", [(201, gone)], *ALL, reference="")
    assert (method, url) == ("POST", "https://rest.iad-03.braze.com/users/export/ids")
    assert body == {"external_ids": ["test_user_id"], "fields_to_export": ["external_id"]}
    assert (said.outcome, said.grade) == ("completed", Grade.claimed)
    there = {"message": "success", "users": [{"external_id": "test_user_id"}]}
    said, asked = played("braze", [(201, there), (201, {"deleted": 1})], *ALL, reference="")
    assert [url.rpartition("users/")[2] for _, url, _, _ in asked] == ["export/ids", "delete"]
    assert said.outcome == "acknowledged"
    for unclear in [(201, {"message": "success"}), (201, {"message": "busy", "users": []}), (401, {}), (400, {})]:
        assert played("braze", [unclear], *ALL, reference="")[0].outcome == "retry", unclear


def test_a_request_whose_answer_was_lost_is_not_refused() -> None:
    """AppsFlyer refuses a key that it has seen; that it has seen it is what counts."""

    def refusal(code: str) -> tuple[int, Any]:
        return 400, {"error": {"code": 400, "af_gdpr_code": code, "message": ""}}

    for document in ("appsflyer", "appsflyer-opengdpr"):
        said, _ = played(document, [refusal("e213")], ALL[2])
        assert (said.outcome, said.reference, said.check_after) == ("acknowledged", str(KEY), 86400)
        for code, outcome in {"e215": "retry", "e319": "retry", "e511": "retry", "e325": "failed"}.items():
            assert played(document, [refusal(code)], ALL[2])[0].outcome == outcome
        said, asked = played(document, [refusal("e214"), (201, {})], ALL[2], reference=str(KEY))
        assert [method for method, *_ in asked] == ["GET", "POST"]
        assert said.outcome == "acknowledged"
    _, [(_, _, _, body)] = played("appsflyer", [(201, {})], identity("ios_vendor_id", "V-1"))
    assert body["property_id"] == "123456789"
    assert body["subject_identities"] == [{"identity_format": "raw", "identity_type": "idfv", "identity_value": "V-1"}]


def test_hubspot_is_asked_until_it_finds_nobody() -> None:
    page = {"results": [{"id": "51"}], "paging": {"next": {"after": "100"}}}
    said, asked = played("hubspot", [(200, page), (200, {"results": [{"id": "52"}]}), (204, {}), (204, {})], ALL[1])
    assert [body.get("after") for _, _, _, body in asked[:2]] == [None, "100"]
    assert [one["value"] for one in asked[0][3]["filterGroups"][0]["filters"]] == ["a@example.org"]
    assert [(url.rpartition("/")[2], body) for _, url, _, body in asked[2:]] == [
        ("gdpr-delete", {"objectId": "51"}),
        ("gdpr-delete", {"objectId": "52"}),
    ]
    assert (said.outcome, said.grade, said.check_after) == ("acknowledged", Grade.acknowledged, 86400)
    said, asked = played("hubspot", [(200, {"total": 0, "results": []})], ALL[1], reference="")
    assert (said.outcome, said.grade, said.detail, len(asked)) == ("completed", Grade.claimed, "not known there", 1)
    said, _ = played("hubspot", [(200, page), (401, {})], ALL[1])
    assert said.outcome == "retry"


def test_clevertap_marks_a_profile() -> None:
    said, [(method, url, headers, body)] = played("clevertap", [(200, {"status": "success"})], *ALL)
    assert (method, url) == ("POST", "https://eu1.api.clevertap.com/1/delete/profiles.json")
    assert body == {"identity": ["test_user_id"]}
    assert headers["X-CleverTap-Account-Id"] == "secret-account_id"
    assert headers["X-CleverTap-Passcode"] == "secret-passcode"
    assert (said.outcome, said.grade) == ("completed", Grade.claimed)
    assert played("clevertap", [(200, {"status": "fail"})], *ALL)[0].outcome == "retry"


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


def test_contacts_in_one_job() -> None:
    """Also one whose alternate address was looked for."""
    other = {"contact": {"id": "c2", "email": "b@example.org", "alternate_emails": ["a@example.org"]}}
    found = {"result": {"a@example.org": other, "y": {"error": "none"}}}
    said, asked = played("sendgrid", [(200, found), (202, {"job_id": "j1"})], ALL[1])
    assert asked[1][:2] == ("DELETE", "https://api.sendgrid.com/v3/marketing/contacts?ids=c2")
    assert (said.outcome, said.reference, said.check_after) == ("acknowledged", "j1", 300)


def test_more_pages_than_a_person_can_have() -> None:
    page = {"data": [], "pages": {"next": {"starting_after": "same"}}}
    said, asked = played("intercom", [(200, page)] * 60, ALL[1])
    assert (said.outcome, len(asked)) == ("retry", 50)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ((200, {"day": "2023-01-05", "status": "staging"}), "acknowledged"),
        ((200, {"message": "Nothing scheduled due to invalid amplitude/user ids for app 7"}), "completed"),
        ((400, {"code": 403, "message": "Forbidden", "status": "Forbidden"}), "retry"),
        ((403, {}), "retry"),
        ((400, {"code": 400}), "failed"),
    ],
)
def test_amplitude_schedules(reply: tuple[int, Any], outcome: str) -> None:
    said, [(method, url, headers, body)] = played("amplitude", [reply], *ALL)
    assert (method, url) == ("POST", "https://amplitude.com/api/2/deletions/users")
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"secret-api_key:secret-api_secret"
    assert body == {"user_ids": ["test_user_id"], "requester": str(KEY), "ignore_invalid_id": "true"}
    assert said.outcome == outcome
