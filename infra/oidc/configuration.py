"""oidc.yaml: which identity provider is believed, and what of. Secrets are named in it and never stand in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from infra.oidc.http import check_url
from processors.oidc_tokens import ALGORITHMS, Kind, Trust
from schemas import schema_dir
from sinks.recipients.yaml_places import line_of, read_yaml

_SCOPES = ("openid", "profile")


class OidcError(ValueError):
    """oidc.yaml cannot be used; the text says where and why."""


@dataclass(frozen=True)
class SignInSettings:
    """How people sign in to the pages. token: which of the provider's tokens says who they are and what they may."""

    name: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = _SCOPES
    token: Kind = "access"
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OidcSettings:
    """What oidc.yaml says. ca: file with the authorities to trust, None: the system's."""

    trust: Trust
    ca: Path | None = None
    sign_in: SignInSettings | None = None


def load_oidc(path: Path, read_secret: Callable[[str], str]) -> OidcSettings | None:
    """What an oidc.yaml says; None: there is no such file. read_secret: the content of a secret by its name.

    Raises `OidcError`, and what `read_secret` raises.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document = read_yaml(text)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise OidcError(f"{path} cannot be read: {type(error).__name__}") from None
    except yaml.YAMLError as error:
        raise OidcError(f"{path} is not YAML: {error}") from None
    schema = json.loads((schema_dir() / "oidc" / "oidc.schema.json").read_text(encoding="utf-8"))
    wrong = sorted(Draft202012Validator(schema).iter_errors(document), key=lambda error: list(map(str, error.path)))
    if wrong:
        at = list(wrong[0].absolute_path)
        where = ".".join(map(str, at)) or "the document"
        raise OidcError(f"{path}, line {line_of(text, at)}: {where}: {wrong[0].message}")
    try:
        check_url(document["issuer"])
    except ValueError as error:
        raise OidcError(f"{path}, line {line_of(text, ['issuer'])}: issuer: {error}") from None
    unknown = set(document.get("verifies_identity", ())) - set(document["roles"])
    if unknown:
        line = line_of(text, ["verifies_identity"])
        raise OidcError(f"{path}, line {line}: verifies_identity: {min(unknown)} is mapped to no role")
    ca = path.parent / document["ca"] if "ca" in document else None
    if ca is not None and not ca.is_file():
        raise OidcError(f"{path}, line {line_of(text, ['ca'])}: ca: there is no file {ca}")
    return OidcSettings(_trust(document), ca, _sign_in(document.get("sign_in"), read_secret))


def _trust(document: Mapping[str, Any]) -> Trust:
    return Trust(
        issuer=document["issuer"],
        audience=document["audience"],
        roles={
            value: frozenset([role] if isinstance(role, str) else role) for value, role in document["roles"].items()
        },
        role_claims=tuple(document["role_claims"]),
        name_claim=document.get("name_claim", "sub"),
        verifying=frozenset(document.get("verifies_identity", ())),
        algorithms=tuple(document.get("algorithms", ALGORITHMS)),
    )


def _sign_in(entry: Mapping[str, Any] | None, read_secret: Callable[[str], str]) -> SignInSettings | None:
    if entry is None:
        return None
    return SignInSettings(
        name=entry.get("name", "single sign-on"),
        client_id=entry["client_id"],
        client_secret=read_secret(entry["client_secret"]) if "client_secret" in entry else None,
        scopes=tuple(entry.get("scopes", _SCOPES)),
        token=entry.get("token", "access"),
        parameters=entry.get("parameters", {}),
    )
