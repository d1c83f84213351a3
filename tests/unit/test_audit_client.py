"""How commands ask the audit API: where it is found, with which token and reason; and servers that do not behave."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest

from infra.audit_client import ApiPlace, ApiRefused, AuditClient, find_api
from infra.cli.over_api import NO_REASON, reason_of
from infra.settings import Settings, SettingsError, settings

TOKEN = "lineage_secret-of-mine"
Answer = Callable[[BaseHTTPRequestHandler], None]


def answers(status: int, body: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    return answers(status, json.dumps({"error": {"code": code, "message": message}}).encode(), **headers)


@contextmanager
def served(*answers: Answer) -> Iterator[tuple[AuditClient, list[dict[str, Any]], list[str]]]:
    """A server that gives these answers, the last one for ever; the client that asks it, what was asked of the server,
    and what the client said while it waited."""
    asked: list[dict[str, Any]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append({"path": self.path, "headers": dict(self.headers), "body": json.loads(body) if body else None})
            self.close_connection = True
            (left.pop(0) if len(left) > 1 else left[0])(self)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    said: list[str] = []
    place = ApiPlace(f"http://127.0.0.1:{server.server_port}", TOKEN, Path("token-file"), False)
    try:
        yield AuditClient(place, "case 4711", said.append), asked, said
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def given(folder: Path, **environment: str) -> Settings:
    return settings(environment, data=folder)


def test_an_api_is_named_with_the_file_of_its_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    named = given(tmp_path, LINEAGE_API_URL="https://lineage.example/x/api/v1/", LINEAGE_API_TOKEN_FILE=str(file))
    place = find_api(named)
    assert (place.url, place.token, place.is_local) == ("https://lineage.example/x", TOKEN, False)
    assert TOKEN not in repr(place)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "no audit API: start the local stack"),
        ({"LINEAGE_API_URL": "https://lineage.example"}, "LINEAGE_API_TOKEN_FILE must name the file"),
        ({"LINEAGE_API_URL": "https://a.example", "LINEAGE_API_TOKEN_FILE": "/no/such"}, "cannot be read"),
        ({"LINEAGE_API_URL": "lineage.example", "LINEAGE_API_TOKEN_FILE": "/no"}, "must be like https://"),
        ({"LINEAGE_API_URL": "http://a:b@c", "LINEAGE_API_TOKEN_FILE": "/no"}, "must be like https://"),
        ({"LINEAGE_API_URL": "file:///etc", "LINEAGE_API_TOKEN_FILE": "/no"}, "must be like https://"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, environment: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        find_api(given(tmp_path, **environment))


def test_what_is_asked_has_the_token_the_reason_and_wants_no_old_answer() -> None:
    with served(answers(200, b'{"a": 1}')) as (client, asked, _):
        assert client.get("/requests", open=True, state=None, note="a b") == {"a": 1}
        with client.asked("POST", "/subjects/lineage", body={"user": "ünü", "as_of": None}) as answer:
            assert answer.status == 200
    assert asked[0]["path"] == "/api/v1/requests?open=true&note=a+b"
    assert asked[0]["headers"]["Authorization"] == f"Bearer {TOKEN}"
    assert asked[0]["headers"]["X-Reason"] == "case 4711"
    assert asked[0]["headers"]["Cache-Control"] == "no-cache"
    assert asked[1]["body"] == {"user": "ünü", "reason": "case 4711"}


def test_a_refusal_is_told_in_its_own_words() -> None:
    with served(error(404, "not_found", "no such event")) as (client, _, _), pytest.raises(ApiRefused) as refused:
        client.get("/events/1")
    assert (refused.value.code, str(refused.value)) == ("not_found", "no such event")


def test_a_token_that_is_not_taken_is_named_by_its_file_only() -> None:
    with served(error(401, "unauthorized", "unknown token")) as (client, _, _), pytest.raises(ApiRefused) as refused:
        client.get("/totals")
    assert "token-file" in str(refused.value)
    assert TOKEN not in str(refused.value)


def test_a_token_goes_to_no_other_host() -> None:
    """What says that it has moved is not followed, not even to itself."""
    with served(answers(302, b"", Location="/api/v1/requests")) as (client, asked, _):
        with pytest.raises(ApiRefused, match="is it the audit API"):
            client.get("/totals")
        assert len(asked) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_who_is_told_to_come_again_does(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    slept: list[float] = []
    monkeypatch.setattr("infra.audit_client.time.sleep", slept.append)
    again = error(status, "unavailable", "Kafka cannot be reached", Retry_After="3")
    with served(again, again, answers(200, b"{}")) as (client, asked, said):
        assert client.get("/totals") == {}
    assert (len(asked), slept) == (3, [3.0, 3.0])
    assert said == ["the audit API cannot answer now (Kafka cannot be reached): trying again"]


def test_without_a_time_nobody_comes_again() -> None:
    with served(error(503, "unavailable", "operator.yaml: x")) as (client, asked, _):
        with pytest.raises(ApiRefused, match=re.escape("operator.yaml: x")):
            client.get("/totals")
        assert len(asked) == 1


def test_where_nobody_answers_it_says_so() -> None:
    place = ApiPlace("http://127.0.0.1:1", TOKEN, Path("token-file"), False)
    with pytest.raises(ApiRefused, match=r"no audit API answers at http://127\.0\.0\.1:1"):
        AuditClient(place).get("/totals")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"error": 7}', b"\xff"])
def test_what_is_no_audit_api_is_not_believed(body: bytes) -> None:
    with served(answers(502, body)) as (client, _, _), pytest.raises(ApiRefused, match="is it the audit API"):
        client.get("/totals")


def chunks(*parts: bytes, is_whole: bool) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in parts:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if is_whole:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def test_entries_come_one_a_line_wherever_chunks_end() -> None:
    with served(chunks(b'{"n": 1}\n{"n"', b": 2}\n", is_whole=True)) as (client, asked, _):
        assert list(client.lines("GET", "/requests")) == [{"n": 1}, {"n": 2}]
    assert asked[0]["headers"]["Accept"] == "application/x-ndjson"


@pytest.mark.parametrize("parts", [(b'{"n": 1}\n',), (b'{"n": 1}\n', b'{"n"'), ()])
def test_an_answer_that_breaks_off_is_not_taken_for_whole(parts: tuple[bytes, ...]) -> None:
    with served(chunks(*parts, is_whole=False)) as (client, _, _), pytest.raises(ApiRefused, match="broke off"):
        list(client.lines("GET", "/requests"))


def test_what_is_no_text_is_refused_before_it_is_sent() -> None:
    with served(answers(200, b"{}")) as (client, asked, _):
        with pytest.raises(ApiRefused, match="valid Unicode"):
            list(client.lines("POST", "/x", body={"user": "\udcff"}))
        assert asked == []


# Reasons


def place(is_local: bool) -> ApiPlace:
    return ApiPlace("http://x", TOKEN, Path("token-file"), is_local)


def test_a_reason_is_given_or_of_the_environment(tmp_path: Path) -> None:
    found = given(tmp_path, LINEAGE_REASON="case 1")
    assert reason_of(found, place(False), None) == "case 1"
    assert reason_of(found, place(True), "  case \n 2 ") == "case 2"


def test_only_the_operator_of_this_machine_may_look_without_a_reason(tmp_path: Path) -> None:
    assert reason_of(given(tmp_path), place(True), None) == NO_REASON
    named = given(tmp_path, LINEAGE_API_TOKEN_FILE="of-somebody")
    for found, where in ((given(tmp_path), place(False)), (named, place(True))):
        with pytest.raises(click.ClickException, match="say why you look at people"):
            reason_of(found, where, None)


def test_a_reason_is_text(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="line of text"):
        reason_of(given(tmp_path), place(True), "case\x07")
