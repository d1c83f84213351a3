"""HTTP by document: what a document can say, what is sent by it, and what is wrong in one."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
import yaml
from aiohttp import web

from sinks.recipients.configuration import ConfigurationError, KafkaTarget, ManualTask, load_connectors
from sinks.recipients.connector import CallbackRefused
from sinks.recipients.document_file import DocumentError, load_document
from sinks.recipients.documents import document_connector
from sinks.recipients.transport import Transport
from tests.unit.vendor_server import (
    ALL,
    CHECK,
    KEY,
    LOOKUP,
    Diverted,
    command,
    identity,
    played,
    request,
    serving,
    written,
)

# What a document can say


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
    cases: list[tuple[list[tuple[int, Any]], str, str]] = [
        ([(200, {"done": True}), (200, {"done": False})], "acknowledged", "b"),
        ([(200, {"done": True}), (200, {"done": True})], "completed", ""),
        # 1 is not true.
        ([(200, {"done": 1}), (200, {"done": False})], "failed", ""),
        ([(503, {}), (200, {"done": True})], "retry", ""),
    ]
    for replies, outcome, reference in cases:
        said, asked = played(path, replies, *ALL, reference="a b")
        assert [url[-1] for _, url, _, _ in asked] == ["a", "b"]
        assert (said.outcome, said.reference) == (outcome, reference)


def test_a_job_without_an_id_does_not_end_with_another(tmp_path: Path) -> None:
    said, _ = played(written(tmp_path, check=CHECK), [(200, {"id": 1}), (200, {})], *ALL)
    assert (said.outcome, said.reference) == ("retry", "")


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


def test_who_was_not_looked_for_is_not_deleted(tmp_path: Path) -> None:
    """Searches may be inexact."""
    deletion = request(url="https://own.example/people/{{ found }}", form=None)
    lookup = {**LOOKUP, "match": {"name": "{{ identity.value }}"}, "query": {"q": "{{ identity.value }}"}}
    path = written(tmp_path, lookup=lookup, request=deletion)
    others = [{"id": 1, "name": "test_user_id2"}, {"id": 2}]
    said, asked = played(path, [(200, {"people": others})], ALL[0])
    assert (said.detail, len(asked)) == ("not known there", 1)
    _, asked = played(path, [(200, {"people": [*others, {"id": 3, "name": "Test_user_id "}]}), (200, {})], ALL[0])
    assert [url.rpartition("/")[2] for _, url, _, _ in asked[1:]] == ["3"]


def test_an_inquiry_may_name_the_person_and_its_refusal_ends_nothing(tmp_path: Path) -> None:
    check = {
        "url": "https://own.example/find",
        "json": {"mails": "{{ known.email.sha256? }}", "ids": "{{ known.controller_customer_id.raw }}"},
        "answers": [{"status": 200, "where": {"found": False}, "outcome": "completed"}],
    }
    answers = [{"status": "2xx", "outcome": "acknowledged", "check_after": 60}]
    path = written(tmp_path, check=check, request=request(answers=answers))
    said, [(_, _, _, body)] = played(path, [(200, {"found": False})], *ALL, reference="")
    assert body == {"mails": [hashlib.sha256(b"a@example.org").hexdigest()], "ids": ["test_user_id"]}
    assert said.outcome == "completed"
    assert played(path, [(200, {"found": False})], ALL[0], reference="")[1][0][3] == {"ids": ["test_user_id"]}
    for status in (400, 410, 422):
        assert played(path, [(status, {})], *ALL, reference="")[0].outcome == "retry"
    # Nobody can be asked for who is not known.
    said, asked = played(path, [], ALL[1], reference="")
    assert (said.outcome, asked) == ("retry", [])


def test_it_has_no_callbacks() -> None:
    async def play() -> None:
        connector = document_connector("braze", {"data_center": "iad-03"}, {"api_key": "k"}, Transport())
        assert connector.protocol == "http"
        with pytest.raises(CallbackRefused) as refused:
            await connector.callback({}, b"{}", "https://x.example")
        assert refused.value.status == 404

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
