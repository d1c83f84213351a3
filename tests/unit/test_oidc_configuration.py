"""oidc.yaml: the examples of docs/permissions.md mean what is said there; secrets are named in it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.oidc.configuration import load_oidc
from processors.oidc_tokens import Signed, client_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "permissions.md"
NOW = 1_800_000_000.0


def examples() -> list[tuple[str, dict[str, Any]]]:
    """Each oidc.yaml of the docs, and the claims that stand below it."""
    blocks = re.findall(r"```(yaml|json)\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["yaml", "json"] * 2
    return [(blocks[at][1], json.loads(blocks[at + 1][1])) for at in (0, 2)]


@pytest.mark.parametrize(("at", "name", "roles"), [(0, "oidc:ada", {"auditor"}), (1, "oidc:c0ffee-1", {"engineer"})])
def test_the_examples_let_in_whom_they_say(tmp_path: Path, at: int, name: str, roles: set[str]) -> None:
    text, claims = examples()[at]
    (tmp_path / "oidc.yaml").write_text(text)
    asked: list[str] = []

    def secret(which: str) -> str:
        asked.append(which)
        return "the-secret"

    found = load_oidc(tmp_path / "oidc.yaml", secret)
    assert found is not None
    assert found.sign_in is not None
    assert asked == ["oidc-client-secret"]
    assert "the-secret" not in repr(found)
    token = Signed("a.b.c", "RS256", {"typ": "JWT"}, {**claims, "exp": NOW + 60})
    client = client_of(token, found.trust, found.trust.audience, "access", NOW)
    assert (client.id, client.roles) == (name, roles)


def test_no_file_is_no_provider(tmp_path: Path) -> None:
    assert load_oidc(tmp_path / "oidc.yaml", str) is None
