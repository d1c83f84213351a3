"""A Confluent-compatible schema registry. Optional (extra `registry`): single-object encoding needs none."""

from __future__ import annotations

import json
from typing import Any

from streams.contracts import Schema
from streams.serdes import UnknownSchemaError


class RegistryError(Exception):
    """The registry cannot be used; the text says what to do."""


class ConfluentRegistry:
    """`url` of the registry's Confluent API; `config`: more of its client's settings (`basic.auth.*`, …)."""

    def __init__(self, url: str, **config: Any) -> None:
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise RegistryError("a schema registry needs: pip install 'disclosure-lineage[registry]'") from error
        self._client = SchemaRegistryClient({"url": url, **config})

    def schema(self, schema_id: int) -> Schema:
        """The schema of an id. Raises `UnknownSchemaError` if there is none, `RegistryError` if it cannot be asked."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return dict(json.loads(self._client.get_schema(schema_id).schema_str))
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                raise UnknownSchemaError(f"schema id {schema_id} is not in the registry") from error
            raise RegistryError(f"the schema registry refused: {error}") from error
        except (ValueError, TypeError) as error:
            raise UnknownSchemaError(f"schema id {schema_id} is no Avro record") from error

    def register(self, subject: str, schema: Schema) -> int:
        """The id of a schema, registered under `subject` if it is new."""
        from confluent_kafka.schema_registry import Schema as RegistrySchema
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return int(self._client.register_schema(subject, RegistrySchema(json.dumps(schema), "AVRO")))
        except SchemaRegistryError as error:
            raise RegistryError(f"the schema registry refused {subject}: {error}") from error
