"""HTTP by document: the shipped documents, and what vendors' recorded answers become, over a real server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from aiohttp import web

from processors.erasure_commands import Answer, Command, Grade
from schemas import schema_dir
from sinks.recipients.documents import DocumentConnector, DocumentError, document_connector, load_document
from sinks.recipients.transport import Reply, Transport

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "rudder-delete-users"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded exchanges are not beside the project")
SHIPPED = sorted(path.stem for path in (schema_dir() / "connectors" / "documents").glob("*.yaml"))
KEY = UUID("f31a16f4-2357-47b5-aba0-d83742f2fd66")
SUBMITTED = 1_672_059_087_000
SETTINGS: dict[str, dict[str, str]] = {
    "appsflyer": {"android_app_id": "AnAID", "apple_app_id": "123456789"},
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
    replies: list[tuple[int, Any]],
    *identities: dict[str, str],
    settings: dict[str, str] | None = None,
    reference: str | None = None,
) -> tuple[Answer, list[tuple[str, str, dict[str, str], Any]]]:
    """What a document makes of a vendor's replies, and what it asked."""
    left = list(replies)

    async def handler(request: web.Request) -> web.StreamResponse:
        status, body = left.pop(0)
        return web.json_response(body, status=status)

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
    method, url, body, status, answer = recorded("af", case)
    said, [(asked_method, asked_url, _, asked_body)] = played(
        "appsflyer", [(status, answer)], identity(kind, "1665148898336-5539842602053895577")
    )
    assert (asked_method, asked_url.partition("?")[0]) == (method, url.partition("?")[0])
    assert asked_url.partition("?")[2] == "api_token=secret-api_token"
    # Its clock had milliseconds.
    assert asked_body.pop("submitted_time")[:19] == body.pop("submitted_time")[:19]
    assert asked_body == body
    assert said.outcome == outcome


@needs_recorded
@pytest.mark.parametrize(
    ("vendor", "name", "field"), [("braze", "braze", "external_ids"), ("am", "amplitude", "user_ids")]
)
@pytest.mark.parametrize("case", [0, 1])
def test_braze_and_amplitude_as_recorded(vendor: str, name: str, field: str, case: int) -> None:
    """The recorded bodies hold placeholders for batches; one command is one person."""
    method, url, _, status, answer = recorded(vendor, case)
    said, [(asked_method, asked_url, headers, body)] = played(name, [(status, answer)], *ALL)
    assert (asked_method, asked_url, body[field]) == (method, url, ["test_user_id"])
    assert headers["Authorization"].startswith("Bearer " if vendor == "braze" else "Basic ")
    taken = "completed" if vendor == "braze" else "acknowledged"
    refused = "failed" if vendor == "braze" else "retry"
    assert said.outcome == (taken if status == 200 else refused)


@needs_recorded
def test_what_was_refused_before_it_was_sent_is_refused_here_too() -> None:
    """Recorded: missing keys and application ids, and people whom the vendor cannot know."""
    with pytest.raises(DocumentError, match=r"settings\.data_center is missing"):
        document_connector("braze", {}, {"api_key": "x"}, Transport())
    with pytest.raises(DocumentError, match=r"secrets\.api_key is missing"):
        document_connector("amplitude", {}, {"api_secret": "x"}, Transport())
    said, asked = played("appsflyer", [], identity("android_advertising_id", "1234"), settings={"apple_app_id": "x"})
    assert (said.outcome, asked) == ("retry", [])
    assert "android_app_id" in said.detail
    said, asked = played("appsflyer", [], identity("email", "testUser@testMail.com"))
    assert (said.outcome, asked) == ("unsupported", [])
    assert "testUser" not in said.detail


# The shipped documents


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_document_sends_what_its_vendor_wants(name: str) -> None:
    found = {"data": [{"id": "c1"}], "result": [{"id": "c1"}]}
    replies = [(200, found)] if "lookup" in load_document(name) else []
    known = {one["type"] for one in load_document(name)["identities"]}
    best = next(one for one in (ALL[1], *ALL) if one["identity_type"] in known)
    said, asked = played(name, [*replies, (418, {})], best)
    method, url, headers, body = asked[-1]
    assert method in ("POST", "DELETE")
    assert url.startswith("https://")
    assert "{" not in url
    assert "{{" not in json.dumps(body)
    assert "secret-" in url + json.dumps(headers) or base64.b64decode(headers["Authorization"][6:]).startswith(
        b"secret-"
    )
    assert (said.outcome, said.detail) == ("failed", "refused: HTTP 418")


@pytest.mark.parametrize(
    ("name", "reply", "outcome"),
    [
        ("mixpanel", (200, {"results": {"status": "SUCCESS"}}), "completed"),
        ("mixpanel", (200, {"results": {"status": "PENDING"}}), "acknowledged"),
        ("segment", (200, {"data": {"regulation": {"overallStatus": "FINISHED"}}}), "completed"),
        ("segment", (200, {"data": {"regulation": {"overallStatus": "PARTIAL_SUCCESS"}}}), "failed"),
        ("segment", (200, {"data": {"regulation": {"overallStatus": "RUNNING"}}}), "acknowledged"),
        ("amplitude", (200, [{"status": "done"}]), "completed"),
        ("amplitude", (200, [{"status": "staging"}]), "acknowledged"),
    ],
)
def test_asking_how_it_stands(name: str, reply: tuple[int, Any], outcome: str) -> None:
    said, [(method, url, _, _)] = played(name, [reply], *ALL, reference="job-7")
    assert (method, said.outcome) == ("GET", outcome)
    assert name == "amplitude" or "job-7" in url
    assert said.grade == {"completed": Grade.claimed, "acknowledged": Grade.acknowledged}.get(outcome, Grade.none)


def test_the_job_of_a_deletion_is_its_reference() -> None:
    said, _ = played("mixpanel", [(200, {"status": "ok", "results": {"task_id": "t-9"}})], *ALL)
    assert (said.outcome, said.reference, said.check_after) == ("acknowledged", "t-9", 3600)


def test_a_job_that_is_forgotten_is_sent_again_under_the_same_key() -> None:
    said, asked = played("segment", [(404, {}), (201, {"data": {"regulateId": "r2"}})], *ALL, reference="r1")
    assert [method for method, *_ in asked] == ["GET", "POST"]
    assert (said.outcome, said.reference) == ("acknowledged", "r2")


def test_a_person_is_looked_up_page_by_page() -> None:
    first = {"data": [], "pages": {"next": {"starting_after": "p2"}}}
    second = {"data": [{"id": "c1"}], "pages": {}}
    said, asked = played("intercom", [(200, first), (200, second), (200, {"deleted": True})], ALL[1])
    assert [body["pagination"]["starting_after"] for _, _, _, body in asked[:2]] == [None, "p2"]
    assert asked[2][:2] == ("DELETE", "https://api.intercom.io/contacts/c1")
    assert said.outcome == "completed"
    said, asked = played("sendgrid", [(200, {"result": []})], ALL[1])
    assert (said.outcome, said.grade, said.detail, len(asked)) == ("completed", Grade.claimed, "not known there", 1)


# What a document can say


DOCUMENT: dict[str, Any] = {
    "vendor": "Own",
    "documentation": "https://own.example/docs",
    "evidence": "its word",
    "secrets": ["id", "secret"],
    "identities": [{"type": "email", "format": "sha256"}, {"type": "controller_customer_id"}],
    "auth": {
        "oauth2": {
            "token_url": "https://own.example/token",
            "grant_type": "client_credentials",
            "client_id": "{{ secrets.id }}",
            "client_secret": "{{ secrets.secret }}",
        }
    },
    "send": "each",
    "request": {
        "url": "https://own.example/delete",
        "form": {"kind": "{{ one.type }}", "value": "{{ one.value }}", "n": "{{ many | length }}"},
        "answers": [{"status": "2xx", "outcome": "acknowledged", "reference": "id"}],
    },
}


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT | changes))
    return path


def test_tokens_are_fetched_kept_and_renewed(tmp_path: Path) -> None:
    issued: list[str] = []
    refused = [True]

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            form = await request.post()
            assert form["client_secret"] == "secret-secret"
            issued.append(f"token-{len(issued)}")
            return web.json_response({"access_token": issued[-1], "expires_in": 600})
        if refused.pop() if refused else False:
            return web.json_response({}, status=401)
        assert request.headers["Authorization"] == f"Bearer {issued[-1]}"
        return web.json_response({"id": 5}, status=202)

    async def play() -> list[Answer]:
        time = [0.0]
        async with serving(handler) as url:
            secrets = {name: f"secret-{name}" for name in DOCUMENT["secrets"]}
            connector = DocumentConnector(
                load_document(written(tmp_path)), {}, secrets, Diverted(url), clock=lambda: time[0]
            )
            answers = [await connector.dispatch(command(ALL[0]))]
            answers.append(await connector.dispatch(command(ALL[0])))
            time[0] = 541.0
            answers.append(await connector.dispatch(command(ALL[0])))
            await connector.close()
            return answers

    answers = asyncio.run(play())
    assert [answer.outcome for answer in answers] == ["acknowledged"] * 3
    assert [answer.reference for answer in answers] == ["5"] * 3
    # One at first, one as it was refused before its time, one as it expired.
    assert issued == ["token-0", "token-1", "token-2"]


def test_each_identifier_by_itself_and_the_worst_answer_counts(tmp_path: Path) -> None:
    changes = {"auth": {"bearer": "{{ secrets.id }}"}}
    said, asked = played(written(tmp_path, **changes), [(200, {"id": 1}), (200, {"id": 2})], *ALL, settings={})
    assert (said.outcome, said.reference) == ("acknowledged", "1 2")
    kinds = [dict(pair.split("=") for pair in body.split("&")) for *_, body in asked]
    assert [one["kind"] for one in kinds] == ["email", "controller_customer_id"]
    assert [len(one["value"]) for one in kinds] == [64, len("test_user_id")]
    said, _ = played(written(tmp_path, **changes), [(200, {"id": 1}), (503, {})], *ALL, settings={})
    assert said.outcome == "retry"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"request": {"url": "https://x", "answers": [{"status": 200, "outcome": "done"}]}},
            r"request\.answers\.0\.outcome",
        ),
        ({"request": {"url": "{{ unclosed", "answers": [{"status": 200, "outcome": "completed"}]}}, r"request\.url"),
        ({"identities": []}, "identities"),
        ({"sned": "all"}, "sned"),
    ],
)
def test_what_is_wrong_in_a_document_is_told_with_its_place(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=told):
        document_connector(written(tmp_path, **changes), {}, {"id": "i", "secret": "s"}, Transport())


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ settings.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ nothing }}",
        "{{ one.missing }}",
    ],
)
def test_a_template_reaches_nothing_but_its_values(template: str, tmp_path: Path) -> None:
    request = DOCUMENT["request"] | {"form": {"x": template}}
    path = written(tmp_path, request=request, auth={"bearer": "{{ secrets.id }}"})
    said, asked = played(path, [], *ALL, settings={})
    assert (said.outcome, asked) == ("retry", [])
    assert "secret-" not in said.detail
    assert "test_user_id" not in said.detail


def test_unknown_settings_and_documents_are_named() -> None:
    with pytest.raises(DocumentError, match=r"settings\.data_centre"):
        document_connector("braze", {"data_center": "x", "data_centre": "y"}, {"api_key": "k"}, Transport())
    with pytest.raises(DocumentError, match="shipped documents: amplitude"):
        document_connector("brazen", {}, {}, Transport())
