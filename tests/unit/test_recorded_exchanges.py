"""Exchanges with vendors that were recorded elsewhere: what is sent by the shipped documents, and what came back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sinks.recipients.document_file import DocumentError, load_document
from sinks.recipients.documents import document_connector
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


def recorded(vendor: str, case: int, place: int = 0) -> tuple[str, str, Any, int, Any]:
    """Method, URL and body that were sent, status and body that came back."""
    exchange = json.loads((RECORDED / vendor / "nw_client_data.json").read_text())[case][place]
    url, body, *_ = exchange["reqParams"]
    response = exchange["response"]
    inner = response.get("response", response)
    return exchange["type"].upper(), url, body, inner["status"], inner.get("data", {})


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
        # Recorded as successful; here: what is only queued or scheduled, or known to nobody.
        ("braze", "braze", "external_ids", {(0, 0): "failed", (0, 1): "acknowledged", (1, 0): "acknowledged"}),
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
