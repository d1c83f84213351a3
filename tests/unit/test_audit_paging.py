"""Cursors and the limit of requests: what a client may send back, and how often."""

import base64
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.api.cursors import Paging, text, uuid, whole
from audit.api.errors import ApiError
from audit.api.rates import TokenBuckets

QUESTION = Paging(["events", "lumen", None])


@given(st.integers(-(2**63), 2**63 - 1), st.uuids(), st.text())
def test_a_cursor_comes_back_as_its_key(number: int, event: UUID, name: str) -> None:
    if name.encode("utf-8", "replace").decode() != name or len(name) > 50:
        return
    cursor = QUESTION.cursor(number, event, name)
    assert QUESTION.after(cursor, whole, uuid, text) == (number, event, name)
    assert QUESTION.after(None, whole) is None


def test_a_cursor_of_another_question_is_refused() -> None:
    cursor = QUESTION.cursor(1)
    for other in (["events", "lumen", 1], ["events", "other", None], ["looks", "lumen", None]):
        with pytest.raises(ApiError, match="another question"):
            Paging(other).after(cursor, whole)


def packed(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "a" * 600, "é", "====", packed({}), packed([]), packed(7), packed("x"), packed(None), "\x00", "AA'--"],
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ApiError) as told:
        QUESTION.after(cursor, whole, uuid)
    assert told.value.code == "bad_cursor"


@pytest.mark.parametrize(
    "key", [["x", str(uuid4())], [True, str(uuid4())], [2**63, str(uuid4())], [1, "x"], [1, 2], [1]]
)
def test_a_key_of_other_types_is_refused(key: list[object]) -> None:
    digest = orjson.loads(base64.urlsafe_b64decode(QUESTION.cursor(1) + "=="))[0]
    with pytest.raises(ApiError) as told:
        QUESTION.after(packed([digest, *key]), whole, uuid)
    assert told.value.code == "bad_cursor"


@given(st.text(max_size=700))
def test_no_text_breaks_it(cursor: str) -> None:
    with pytest.raises(ApiError):
        QUESTION.after(cursor, whole, uuid)


def test_a_bucket_lets_through_what_it_should() -> None:
    now = [0.0]
    buckets = TokenBuckets(2.0, 3, lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [None, None, None, 1]
    assert buckets.take("b") is None, "each client has its own"
    now[0] = 0.5
    assert [buckets.take("a") for _ in range(2)] == [None, 1]
    now[0] = 100.0
    assert [buckets.take("a") for _ in range(4)] == [None, None, None, 1], "it never holds more than the burst"


def test_a_slow_bucket_tells_how_long_to_wait() -> None:
    now = [0.0]
    buckets = TokenBuckets(0.1, 1, lambda: now[0])
    assert [buckets.take("a"), buckets.take("a")] == [None, 10]
    now[0] = 9.0
    assert buckets.take("a") == 1
    now[0] = 10.0
    assert buckets.take("a") is None


def test_buckets_of_many_clients_are_forgotten_when_full() -> None:
    now = [0.0]
    buckets = TokenBuckets(1.0, 2, lambda: now[0])
    for n in range(10_000):
        buckets.take(str(n))
    now[0] = 1.0
    buckets.take("late")
    now[0] = 2.5
    buckets.take("more")
    assert len(buckets._left) == 2
