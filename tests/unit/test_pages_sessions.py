"""Sessions of the pages: when they end, how many there are, and what they never show; where a sign-in may lead."""

from threading import Thread

import pytest

from audit.pages.sessions import MOST_CASES, Sessions
from audit.pages.sign_in import local


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(clock, idle=30, whole=100, most=3)


def test_a_session_holds_what_was_presented_until_it_is_ended(sessions: Sessions) -> None:
    one, other = sessions.begin("Bearer one"), sessions.begin("Bearer other")
    assert one != other
    found = sessions.of(one)
    assert found is not None
    assert found.authorization == "Bearer one"
    sessions.end(one)
    assert sessions.of(one) is None
    assert sessions.of(other) is not None
    for stranger in (None, "", "guessed"):
        assert sessions.of(stranger) is None


def test_it_ends_when_nobody_comes_and_at_last_in_any_case(sessions: Sessions, clock: Clock) -> None:
    seen, left = sessions.begin("a"), sessions.begin("b")
    for clock.now in range(20, 100, 20):
        assert sessions.of(seen) is not None
    assert sessions.of(left) is None
    clock.now = 99.9
    assert sessions.of(seen) is not None
    clock.now = 100
    assert sessions.of(seen) is None


def test_of_too_many_the_one_ends_that_was_seen_longest_ago(sessions: Sessions) -> None:
    first, second, third = (sessions.begin(name) for name in "abc")
    sessions.of(first)
    fourth = sessions.begin("d")
    assert [sessions.of(one) is not None for one in (first, second, third, fourth)] == [True, False, True, True]


def test_a_case_is_known_in_its_session_alone(sessions: Sessions) -> None:
    mine, yours = sessions.of(sessions.begin("a")), sessions.of(sessions.begin("b"))
    assert mine is not None
    assert yours is not None
    case = sessions.open_case(mine, "ann", b"x" * 16, "case 1")
    assert sessions.case(mine, case.id) == case
    assert sessions.case(yours, case.id) is None
    assert sessions.open_case(mine, "ann", b"x" * 16, "case 1") is case
    assert sessions.open_case(mine, "ann", b"x" * 16, "case 2").id != case.id
    assert mine.reason == "case 2"


def test_cases_are_bounded(sessions: Sessions) -> None:
    session = sessions.of(sessions.begin("a"))
    assert session is not None
    cases = [sessions.open_case(session, f"user {n}", bytes([n] * 16), "case 1") for n in range(MOST_CASES + 1)]
    assert sessions.case(session, cases[0].id) is None
    assert all(sessions.case(session, case.id) for case in cases[1:])


def test_nothing_that_is_secret_is_in_a_repr(sessions: Sessions) -> None:
    session = sessions.of(sessions.begin("Bearer secret"))
    assert session is not None
    case = sessions.open_case(session, "ann@shop", b"x" * 16, "a reason")
    for shown in (repr(session), repr(case), repr(sessions)):
        assert not any(secret in shown for secret in ("secret", "ann@shop", "xxxx", "a reason"))


def test_many_threads(clock: Clock) -> None:
    sessions = Sessions(clock, most=50)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for n in range(300):
                session = sessions.of(sessions.begin("a"))
                if session is not None:
                    sessions.open_case(session, str(n), bytes(16), "r")
        except BaseException as error:
            failed.append(error)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("path", ["/", "/people/abc?as_of=2026-03-01T08:00:00.000Z&policy=1", "/events?clause=3.1(4)"])
def test_a_sign_in_leads_back_to_a_page_of_ours(path: str) -> None:
    assert local(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "people",
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/a\nSet-Cookie: x",
        "/\t/evil.example",
        "/" + "a" * 3000,
        "/sign-in?next=/sign-in",
        "\\\\evil.example",
    ],
)
def test_and_nowhere_else(path: str) -> None:
    assert local(path) == "/"
