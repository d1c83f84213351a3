"""A Confluent-compatible schema registry. Optional (extra `registry`): single-object encoding needs none."""

from __future__ import annotations

import json
from typing import Any

from streams.contracts import Schema
from streams.serdes import UnknownSchemaError

TIMEOUT_SECONDS = 30
# Confluent's error code for an id that was never given.
SCHEMA_NOT_FOUND = 40403


class RegistryError(Exception):
    """The registry cannot be used; the text says what to do."""


class ConfluentRegistry:
    """`url` of the registry's Confluent API; `config`: more of its client's settings (`basic.auth.*`, …)."""

    def __init__(self, url: str, **config: Any) -> None:
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise RegistryError("a schema registry needs: pip install 'disclosure-lineage[registry]'") from error
        self._url = url
        try:
            # The client's own default is to wait for an answer for ever.
            self._client = SchemaRegistryClient({"url": url, "timeout": TIMEOUT_SECONDS, **config})
        except (ValueError, TypeError) as error:
            raise RegistryError(f"schema registry {url}: {error}") from error

    def schema(self, schema_id: int) -> Schema:
        """The schema of an id. Raises `UnknownSchemaError` if the registry says that there is no such Avro record,
        `RegistryError` if it says anything else or nothing: that is no message's fault."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            found = self._client.get_schema(schema_id)
        except SchemaRegistryError as error:
            # A wrong URL answers 404 as well, without this code.
            if error.error_code == SCHEMA_NOT_FOUND:
                raise UnknownSchemaError(f"schema id {schema_id} is not in the registry") from error
            raise self._unusable(error) from error
        except Exception as error:
            raise self._unusable(error) from error
        if found.schema_type == "AVRO":
            schema = json.loads(found.schema_str or "null")
            if isinstance(schema, dict) and schema.get("type") == "record":
                return schema
        raise UnknownSchemaError(f"schema id {schema_id} is no Avro record")

    def register(self, subject: str, schema: Schema) -> int:
        """The id of a schema, registered under `subject` if it is new. Raises `RegistryError`."""
        from confluent_kafka.schema_registry import Schema as RegistrySchema
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return int(self._client.register_schema(subject, RegistrySchema(json.dumps(schema), "AVRO")))
        except SchemaRegistryError as error:
            raise RegistryError(f"the schema registry {self._url} refused {subject}: {error}") from error
        except Exception as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> RegistryError:
        return RegistryError(
            f"the schema registry {self._url} cannot be used ({error}): check that it runs and that the URL is that of "
            "its Confluent API; nothing is lost, start again when it answers"
        )
