"""The fixture `clickhouse` comes here: the real ClickHouse engine behind its endpoint."""
