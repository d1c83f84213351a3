"""Tokens of the API: who is let in, and that a token itself is nowhere to be found."""

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.api.authentication import ClientsFile, create_token, revoke
from infra.cli.api import api
from processors.api_clients import ClientsError, Forbidden, Unauthorized, read_clients


def test_a_token_lets_its_client_in_until_it_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "api-clients.json"
    file = ClientsFile(path)
    with pytest.raises(Unauthorized):
        file.authenticate("Bearer x")
    token = create_token(path, "shop", ["eraser"], verifies_identity=True)
    client = file.authenticate(f"bearer {token}")
    assert (client.id, client.roles, client.verifies_identity) == ("shop", {"eraser"}, True)
    client.require("eraser")
    with pytest.raises(Forbidden, match="auditor"):
        client.require("auditor")
    second = create_token(path, "shop", ["eraser"])
    assert not file.authenticate(f"Bearer {second}").verifies_identity
    assert revoke(path, "shop", client.token_sha256[:8]) == 1
    with pytest.raises(Unauthorized, match="not known"):
        file.authenticate(f"Bearer {token}")
    assert file.authenticate(f"Bearer {second}").id == "shop"
    assert revoke(path, "shop") == 1
    assert revoke(path, "shop") == 0
    with pytest.raises(Unauthorized):
        file.authenticate(f"Bearer {second}")


def test_the_file_holds_no_token_and_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "api-clients.json"
    token = create_token(path, "shop", ["eraser"])
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_expires(tmp_path: Path) -> None:
    path = tmp_path / "api-clients.json"
    token = create_token(path, "shop", ["eraser"], days=2)
    now = os.stat(path).st_mtime
    assert ClientsFile(path, lambda: now + 1.9 * 86_400).authenticate(f"Bearer {token}").id == "shop"
    with pytest.raises(Unauthorized, match="expired"):
        ClientsFile(path, lambda: now + 2.1 * 86_400).authenticate(f"Bearer {token}")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic eDp5", "bearer \udcff"])
def test_what_is_no_token_lets_nobody_in(tmp_path: Path, header: str | None) -> None:
    path = tmp_path / "api-clients.json"
    create_token(path, "shop", ["eraser"])
    with pytest.raises(Unauthorized):
        ClientsFile(path).authenticate(header)


def test_a_file_that_breaks_lets_nobody_in_any_more(tmp_path: Path) -> None:
    path = tmp_path / "api-clients.json"
    token = create_token(path, "shop", ["eraser"])
    file = ClientsFile(path)
    file.authenticate(f"Bearer {token}")
    whole = path.read_text()
    path.write_text(whole[:-10])
    for _ in range(2):
        with pytest.raises(Unauthorized, match="cannot be read"):
            file.authenticate(f"Bearer {token}")
    path.write_text(whole)
    assert file.authenticate(f"Bearer {token}").id == "shop"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": ""}, "clients[0].id"),
        ({"token_sha256": "abc"}, "clients[0].token_sha256"),
        ({"roles": []}, "clients[0].roles"),
        ({"roles": ["king"]}, "clients[0].roles"),
        ({"expires_at": "never"}, "clients[0].expires_at"),
        ({"verifies_identity": "yes"}, "clients[0].verifies_identity"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(change: dict[str, object], told: str) -> None:
    entry = {"id": "shop", "token_sha256": "0" * 64, "roles": ["eraser"]}
    assert len(read_clients(json.dumps({"clients": [entry]}))) == 1
    with pytest.raises(ClientsError) as error:
        read_clients(json.dumps({"clients": [entry | change]}))
    assert str(error.value).startswith(told)


@pytest.mark.parametrize("text", ["", "[]", '{"clients": {}}', '{"clients": [1]}'])
def test_what_is_no_list_of_clients_is_told(text: str) -> None:
    with pytest.raises(ClientsError):
        read_clients(text)


def test_tokens_from_the_command_line(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(api, ["token", *arguments, "--data", str(tmp_path)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    created = ["create", "--name", "shop", "--role", "eraser", "--role", "auditor", "--days", "9", "--json"]
    token = json.loads(run(*created))["token"]
    assert ClientsFile(tmp_path / "secrets" / "api-clients.json").authenticate(f"Bearer {token}").id == "shop"
    [entry] = json.loads(run("list", "--json"))["tokens"]
    assert (entry["name"], entry["roles"], entry["verifies_identity"]) == ("shop", ["auditor", "eraser"], False)
    assert token not in run("list")
    assert json.loads(run("revoke", "shop", "--json")) == {"revoked": 1}
    refused = CliRunner().invoke(api, ["token", "revoke", "shop", "--data", str(tmp_path)])
    assert refused.exit_code != 0
    misplaced = CliRunner().invoke(api, ["--data", str(tmp_path), "token", "list"])
    assert "behind the subcommand" in misplaced.output
