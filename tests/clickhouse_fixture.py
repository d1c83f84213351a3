"""The fixture `clickhouse`: the real ClickHouse engine behind its endpoint, started when the first test asks for it.

Tests that use it are marked `clickhouse` by themselves. They keep apart by databases of their own:

    def test_something(clickhouse):
        database = clickhouse.database()
        with database.client() as client: ...
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from clickhouse_driver import Client

from infra.local.clickhouse import LocalClickHouse


@dataclass(frozen=True)
class DatabaseForTest:
    """A database that no other test has."""

    host: str
    port: int
    name: str

    @property
    def url(self) -> str:
        return f"clickhouse://{self.host}:{self.port}/{self.name}"

    def client(self, **options: Any) -> Client:
        """A client of the database; options are those of `clickhouse_driver.Client`."""
        return Client(self.host, self.port, database=self.name, **options)


class ClickHouseForTests:
    """A running engine; `url` names its database `default`, which tests leave alone."""

    def __init__(self, local: LocalClickHouse) -> None:
        self.host, self.port, self.url = local.host, local.port, local.url

    def database(self, prefix: str = "test") -> DatabaseForTest:
        """Create a database of a fresh name."""
        database = DatabaseForTest(self.host, self.port, f"{prefix}_{uuid.uuid4().hex[:12]}")
        with Client(self.host, self.port) as client:
            client.execute(f"CREATE DATABASE {database.name}")
        return database


def pytest_itemcollected(item: pytest.Item) -> None:
    if "clickhouse" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.clickhouse)


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseForTests]:
    """One engine for the whole run. Tests must not stop it; those that do start a LocalClickHouse of their own."""
    local = LocalClickHouse(tmp_path_factory.mktemp("clickhouse"))
    local.start()
    yield ClickHouseForTests(local)
    local.stop()
