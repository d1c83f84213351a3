"""The ways to recipients, from settings; apart from the controller, so that a command that only asks loads little."""

from __future__ import annotations

from infra.settings import Settings
from sinks.recipients.configuration import Connectors, load_connectors


def connectors_of(settings: Settings) -> Connectors:
    """What connectors.yaml says. Raises `ConfigurationError`, `SettingsError`."""
    path = settings.connectors_file()
    return load_connectors(path if path.exists() else None, settings.named_secret)
