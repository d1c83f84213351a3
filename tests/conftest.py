"""Fixtures of the real parts, one plugin module for each; a part that is missing fails the run, nothing is skipped."""

pytest_plugins = ["tests.kafka_fixture", "tests.clickhouse_fixture", "tests.oidc_fixture", "tests.registry_fixture"]
