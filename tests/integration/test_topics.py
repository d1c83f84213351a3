"""Topics are there for everybody when `apply` returns, also where the broker learns of them late."""

from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from streams.topics import Change, apply
from tests.kafka_fixture import KafkaForTests


class LateBroker(AdminClient):
    """A real broker's admin client that shows what there was before, so many times: as a broker under load does."""

    def __init__(self, bootstrap: str, times: float) -> None:
        super().__init__({"bootstrap.servers": bootstrap})
        self.times = times
        self._before = super().list_topics(timeout=30)

    def list_topics(self, *args: Any, **kwargs: Any) -> Any:
        self.times -= 1
        return self._before if self.times >= 0 else super().list_topics(*args, **kwargs)


def test_topics_are_waited_for_until_the_broker_shows_them(kafka: KafkaForTests) -> None:
    admin = LateBroker(kafka.bootstrap, 3)
    names = [kafka.topic_name("late") for _ in range(2)]
    apply(admin, [Change(name, "create", "", partitions=12) for name in names])
    assert admin.times < 0
    for name in names:
        shown = admin.list_topics(timeout=30).topics[name].partitions
        assert [shown[n].leader >= 0 for n in range(12)] == [True] * 12


def test_topics_that_the_broker_does_not_show_are_named(kafka: KafkaForTests) -> None:
    name = kafka.topic_name("never")
    with pytest.raises(TimeoutError, match=rf"{name}: created, but .* run `lineage topics apply` again"):
        apply(LateBroker(kafka.bootstrap, float("inf")), [Change(name, "create", "", partitions=1)], timeout=1)


def test_nothing_is_asked_of_the_broker_where_nothing_is_new(kafka: KafkaForTests) -> None:
    admin = LateBroker(kafka.bootstrap, 3)
    apply(admin, [])
    assert admin.times == 3
