"""The API process with a real identity provider: its tokens on the audit API and OpenDSR, signing in to the pages."""

import re
from collections.abc import Iterator
from http.cookies import Morsel, SimpleCookie
from typing import Any
from uuid import UUID

import httpx
import pytest
from confluent_kafka.admin import AdminClient

from audit.api.permissions import OPERATIONS, allowed
from infra.settings import settings, write_secret
from processors.api_clients import ROLES
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect
from streams.kafka import Kafka
from streams.publishing import publish_policies, publish_recipients
from streams.topics import apply, plan
from tests import audit_world as world
from tests.api_process import ApiProcess, api_process
from tests.integration.test_audit_api import ASKED, V1, WHY
from tests.integration.test_opendsr_api import body, steps
from tests.kafka_fixture import KafkaForTests
from tests.oidc_fixture import CALLBACK, OIDC_YAML, USERS, IdentityProvider


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    found = IdentityProvider(tmp_path_factory.mktemp("idp"))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def api(
    kafka: KafkaForTests, clickhouse: Any, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiProcess]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    publish_policies(Kafka(kafka.bootstrap), world.policies())
    publish_recipients(Kafka(kafka.bootstrap), world.recipients())
    url = clickhouse.database().url
    client = connect(url)
    migrate.apply(client)
    data = tmp_path_factory.mktemp("api")
    write_secret(data / "secrets" / "oidc-client-secret", b"pages-secret\n")
    sign_in = {"name": "Nano & Co", "client_id": "pages", "client_secret": "oidc-client-secret"}
    provider.write_yaml(data / "oidc.yaml", sign_in=sign_in)
    # The provider need not be there when the API starts.
    with api_process(data, kafka.bootstrap, url) as running:
        provider.configure([running.url + CALLBACK])
        provider.start()
        world.fill(client, running.settings.pepper())
        client.disconnect()
        yield running


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


# Tokens


@pytest.mark.parametrize("user", USERS)
def test_a_person_may_what_their_mapped_roles_may(api: ApiProcess, provider: IdentityProvider, user: str) -> None:
    mapped = OIDC_YAML["roles"]
    roles = {role for value in USERS[user][1] if value in mapped for role in ROLES if role in mapped[value]}
    with api.client(provider.user_tokens(user)["access_token"]) as client:
        for operation, (path, asked) in ASKED.items():
            answer = client.request(OPERATIONS[operation].method, V1 + path, json=asked, headers=WHY)
            expected = 200 if allowed(operation, roles) else 403
            assert answer.status_code == expected, (operation, answer.text)
        if not roles:
            assert "gives no role here" in answer.json()["error"]["message"]


def test_a_look_names_who_the_provider_vouches_for(api: ApiProcess, provider: IdentityProvider) -> None:
    with (
        api.client(provider.user_tokens("cleo")["access_token"]) as cleo,
        api.client(api.token("cleo", "clerk")) as own,
    ):
        for client in (cleo, own):
            path, asked = ASKED["lineage"]
            assert client.post(V1 + path, json=asked, headers=WHY).status_code == 200
        # One's own looks are not another's of the same name.
        [look] = cleo.get(f"{V1}/looks?limit=1").json()["looks"]
        assert look["client"] == "oidc:cleo"
        assert {look["client"] for look in own.get(f"{V1}/looks").json()["looks"]} == {"cleo"}


def test_tokens_that_are_not_good_are_refused_with_a_reason(api: ApiProcess, provider: IdentityProvider) -> None:
    good = provider.user_tokens("ada")["access_token"]
    with api.client(good) as client:
        assert client.get(f"{V1}/totals").status_code == 200
    for token in (f"{good[:-8]}AAAAAAAA", provider.user_tokens("ada")["refresh_token"], "garbage", "lineage_garbage"):
        with api.client(token) as client:
            answer = client.get(f"{V1}/totals")
            assert (answer.status_code, code_of(answer)) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert token not in answer.text
            assert client.get("/opendsr/2.0/requests/x").status_code == 401
    assert good not in api.log.read_text()


def test_open_dsr_takes_tokens_of_the_provider(api: ApiProcess, provider: IdentityProvider) -> None:
    for scope, expected in (("lineage:erase-verified", ["received", "verified"]), ("lineage:erase", ["received"])):
        with api.client(provider.client_token(scope)) as shop:
            asked = body(f"user of {scope}")
            answer = shop.post("/opendsr/2.0/requests", json=asked)
            assert answer.status_code == 201, answer.text
            assert answer.json()["controller_id"] == "oidc:shop"
            # Without a verified identity it waits for somebody to verify it.
            written = [step["step"] for step in steps(api, UUID(asked["subject_request_id"]))]
            assert written == expected
    with api.client(provider.user_tokens("ada")["access_token"]) as auditor:
        assert auditor.post("/opendsr/2.0/requests", json=body("x")).status_code == 403
    with api.client(provider.client_token()) as nobody:
        assert nobody.post("/opendsr/2.0/requests", json=body("x")).status_code == 403


# Pages


class Browser:
    """Keeps cookies as browsers do, so far as it matters here: by path, and by what another site makes it send."""

    def __init__(self, api: ApiProcess) -> None:
        self.http = httpx.Client(base_url=api.url, timeout=60)
        self.cookies: dict[str, Morsel[str]] = {}

    def get(self, path: str, from_elsewhere: bool = False, **headers: str) -> httpx.Response:
        return self._send("GET", path, from_elsewhere, headers)

    def post(self, path: str, **form: str) -> httpx.Response:
        origin = {"Origin": str(self.http.base_url).rstrip("/")}
        return self._send("POST", path, False, origin, data=form)

    def _send(
        self, method: str, path: str, from_elsewhere: bool, headers: dict[str, str], **more: Any
    ) -> httpx.Response:
        sent = [
            f"{name}={cookie.value}"
            for name, cookie in self.cookies.items()
            if path.startswith(cookie["path"]) and not (from_elsewhere and cookie["samesite"].lower() != "lax")
        ]
        self.http.cookies.clear()
        answer = self.http.request(method, path, headers={**headers, "Cookie": "; ".join(sent)}, **more)
        for line in answer.headers.get_list("set-cookie"):
            for name, cookie in SimpleCookie(line).items():
                if cookie["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = cookie
        return answer


@pytest.fixture
def browser(api: ApiProcess) -> Iterator[Browser]:
    found = Browser(api)
    yield found
    found.http.close()


def came_back(browser: Browser, provider: IdentityProvider, user: str, wanted: str = "/") -> httpx.Response:
    """What is shown to somebody who has signed in at the provider."""
    begun = browser.get(f"/sign-in/oidc?next={wanted}")
    assert begun.status_code == 303
    back = provider.log_in(begun.headers["location"], user)
    assert back is not None
    return browser.get(f"{back.path}?{back.query.decode()}", from_elsewhere=True)


def test_signing_in_and_out(api: ApiProcess, provider: IdentityProvider, browser: Browser) -> None:
    page = browser.get("/sign-in?next=%2Foverview")
    assert "Sign in with Nano &amp; Co" in page.text
    assert 'href="/sign-in/oidc?next=%2Foverview"' in page.text
    shown = came_back(browser, provider, "ada", "%2Foverview")
    assert shown.status_code == 200
    assert shown.headers["referrer-policy"] == "no-referrer"
    assert '<meta http-equiv="refresh" content="0;url=/overview">' in shown.text
    # What the sign-in needed is forgotten, and the session is for pages of this site only.
    assert set(browser.cookies) == {"lineage_session"}
    session = browser.cookies["lineage_session"]
    assert (session["httponly"], session["samesite"].lower()) == (True, "strict")
    assert browser.get("/overview", from_elsewhere=True).status_code == 303
    home = browser.get("/")
    assert home.status_code == 200
    assert "oidc:ada" in home.text
    assert "auditor" in home.text
    left = browser.post("/sign-out")
    assert left.status_code == 200
    [url] = re.findall(r'href="(http[^"]+)"', left.text)
    asked = httpx.URL(url.replace("&amp;", "&"))
    assert str(asked.copy_with(query=None)) == f"{provider.issuer}/logout"
    assert dict(asked.params) == {"client_id": "pages", "post_logout_redirect_uri": f"{api.url}/sign-in"}
    assert httpx.get(asked).headers["location"] == f"{api.url}/sign-in"
    assert not browser.cookies
    assert browser.get("/").headers["location"] == "/sign-in"


def test_looks_on_pages_are_those_of_the_person(api: ApiProcess, provider: IdentityProvider, browser: Browser) -> None:
    came_back(browser, provider, "cleo")
    found = browser.post("/people", user=world.ANN, reason="case 12 of the pages")
    assert found.status_code == 303
    assert browser.get(found.headers["location"]).status_code == 200
    with api.client(provider.user_tokens("otto")["access_token"]) as overseer:
        looks = overseer.get(f"{V1}/looks?client=oidc:cleo&limit=100").json()["looks"]
    assert ("clerk", "case 12 of the pages") in {(look["role"], look["reason"]) for look in looks}


def test_a_page_is_for_roles_that_may_see_it(provider: IdentityProvider, browser: Browser) -> None:
    came_back(browser, provider, "otto")
    assert browser.get("/").status_code == 200
    assert browser.post("/people", user=world.ANN, reason="case 13").status_code == 403


def test_who_has_no_role_or_changes_their_mind_is_told(provider: IdentityProvider, browser: Browser) -> None:
    shown = came_back(browser, provider, "mallory")
    assert shown.status_code == 403
    assert "gives no role here" in shown.text
    assert "lineage_session" not in browser.cookies
    begun = httpx.URL(browser.get("/sign-in/oidc").headers["location"])
    shown = browser.get(f"{CALLBACK}?error=access_denied&state={begun.params['state']}", from_elsewhere=True)
    assert shown.status_code == 403
    assert "did not let you in" in shown.text


def test_an_answer_without_its_own_beginning_is_refused(provider: IdentityProvider, browser: Browser) -> None:
    begun = browser.get("/sign-in/oidc").headers["location"]
    back = provider.log_in(begun, "ada")
    assert back is not None
    answer = f"{back.path}?{back.query.decode()}"
    mine = browser.cookies.pop("lineage_sign_in")
    assert (mine["httponly"], mine["samesite"], mine["path"]) == (True, "lax", "/sign-in/oidc")
    # Somebody is sent the answer to a sign-in of somebody else's, with and without one of their own.
    assert browser.get(answer, from_elsewhere=True).status_code == 400
    browser.get("/sign-in/oidc")
    assert browser.get(answer, from_elsewhere=True).status_code == 400
    # What a browser keeps cannot be made up.
    for made_up in ("", "x", mine.value[:-6] + "AAAAAA", mine.value + "x"):
        mine_altered: Morsel[str] = Morsel()
        mine_altered.set("lineage_sign_in", made_up, made_up)
        mine_altered["path"], mine_altered["samesite"] = "/", "lax"
        browser.cookies["lineage_sign_in"] = mine_altered
        assert browser.get(answer, from_elsewhere=True).status_code == 400
    assert "lineage_session" not in browser.cookies
    for query in ("", "?code=x", "?state=x&code=y", "?state=%ff%00"):
        assert browser.get(CALLBACK + query, from_elsewhere=True).status_code == 400


def test_nothing_goes_by_the_host_that_a_request_names(api: ApiProcess, browser: Browser) -> None:
    url = httpx.URL(
        browser.get("/sign-in/oidc", Host="evil.example", **{"X-Forwarded-Host": "evil.example"}).headers["location"]
    )
    assert url.params["redirect_uri"] == api.url + CALLBACK
    for wanted in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "x" * 1999):
        answer = browser.get("/sign-in/oidc", from_elsewhere=False).headers["location"]
        assert "evil" not in httpx.get(f"{api.url}/sign-in/oidc", params={"next": wanted}).headers["location"]
        assert answer.startswith(str(url.copy_with(query=None)))


def test_our_own_tokens_sign_in_and_out_as_before(api: ApiProcess, browser: Browser) -> None:
    assert browser.post("/sign-in", token=api.token("rita", "auditor"), next="/").status_code == 303
    assert "rita" in browser.get("/").text
    assert browser.post("/sign-out").headers["location"] == "/sign-in"


def test_without_a_url_for_browsers_the_api_does_not_start(api: ApiProcess) -> None:
    from infra.api.app import build_app
    from infra.settings import SettingsError
    from sinks.recipients.configuration import Connectors

    given = api.settings
    environment = {"LINEAGE_DATA": str(given.data)}
    for public in ("http://lineage.example.com", "https://lineage.example.com/below", "lineage"):
        found = settings(
            {**environment, "LINEAGE_PUBLIC_URL": public}, kafka=given.kafka_bootstrap, clickhouse=given.clickhouse_url
        )
        with pytest.raises(SettingsError, match="LINEAGE_PUBLIC_URL"):
            build_app(found, Connectors, "http://127.0.0.1:1")
    bare = settings(environment, kafka=given.kafka_bootstrap, clickhouse=given.clickhouse_url)
    with pytest.raises(SettingsError, match="LINEAGE_PUBLIC_URL"):
        build_app(bare, Connectors, "http://0.0.0.0:8080")


# Last: it stops the provider.


def test_while_the_provider_is_away(api: ApiProcess, provider: IdentityProvider, browser: Browser) -> None:
    token = provider.user_tokens("ada")["access_token"]
    came_back(browser, provider, "ada")
    provider.stop()
    try:
        with api.client(token) as client:
            assert client.get(f"{V1}/totals").status_code == 200
        assert browser.get("/").status_code == 200
        with api.client(api.token("otis", "engineer")) as client:
            assert client.get(f"{V1}/totals").status_code == 200
    finally:
        provider.start()
