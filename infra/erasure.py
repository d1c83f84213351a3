"""The erasure controller put together: keys, connectors, the turn, the purge, births and callbacks, from settings."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from infra.settings import Settings, SettingsError
from processors.erasure import DAY, Request, Terms, to_record
from processors.erasure_certificate import ErasedPlace, certificate, sign
from processors.knowledge import Knowledge
from sinks.clickhouse.client import connect
from sinks.clickhouse.erasable import purged_places
from sinks.recipients.configuration import Connectors, ConnectorsFile
from streams.erasure_routes import Routes
from streams.identities import load_private_key
from streams.kafka import Kafka
from streams.opendsr.callback_sender import CallbackSender
from streams.opendsr.signing import Signer
from streams.reference_data import ReferenceData
from streams.serdes import Registry
from streams.workflows.births import Births
from streams.workflows.erasing import Certify, Erasing
from streams.workflows.erasures import Erasures
from streams.workflows.purging import Purging

log = logging.getLogger(__name__)


def erasures(
    settings: Settings, kafka: Kafka, registry: Registry | None = None, term_days: float | None = None
) -> Erasures:
    """The job `erasures`. `term_days`: instead of the policy's `response_days`, to try things out.

    Raises `SettingsError`, `ConfigurationError`, `KafkaException`.
    """
    file = ConnectorsFile(settings.connectors_file(), settings.named_secret, log.error)
    connectors = file.current
    reference = ReferenceData(kafka, registry)
    reference.read_to_end()

    def knowledge() -> Knowledge:
        reference.poll()
        return reference.knowledge

    def terms() -> Terms:
        return terms_of(knowledge(), term_days)

    routes = Routes(connectors, knowledge, time.time, registry)
    erasing = Erasing(
        kafka,
        connect(settings.clickhouse()),
        routes,
        load_private_key(settings.controller_private_key()),
        (*purged_places(), "identities"),
        terms,
        certifier(settings, lambda: reference.knowledge),
        lambda: public_url(settings, connectors()),
        registry,
    )
    signer = Signer(settings.opendsr_domain, settings.opendsr_certificate(), settings.opendsr_key())
    return Erasures(
        kafka,
        erasing,
        Purging(kafka, connect(settings.clickhouse()), registry),
        routes,
        CallbackSender(signer, allow_private=connectors().allow_private),
        Births(kafka, connect(settings.clickhouse()), lambda: reference.knowledge, registry),
        registry,
    )


def public_url(settings: Settings, connectors: Connectors) -> str | None:
    """Where recipients reach our API: as connectors.yaml says, else the local stack's own; None: there is none."""
    if connectors.public_url:
        return connectors.public_url
    try:
        return f"http://{settings.api()}"
    except SettingsError:
        return None


def terms_of(knowledge: Knowledge, term_days: float | None = None) -> Terms:
    """The terms of the policy in force now; with a short term everything is hurried alike."""
    policy = knowledge.view(knowledge.epoch(int(time.time() * 1000))).policy
    if term_days is None:
        return Terms(response=(policy.response_days if policy else 30) * DAY)
    response = int(term_days * DAY)
    return Terms(
        response=response,
        margin=min(DAY, response // 10),
        longest_backoff=max(2000, response // 50),
        lease=min(Terms.lease, max(5000, response // 20)),
    )


def certifier(settings: Settings, knowledge: Callable[[], Knowledge]) -> Certify:
    """What makes and signs certificates. Raises `SettingsError`."""
    key = load_pem_private_key(settings.certificate_key(), password=None)

    def certify(request: Request, ended: Request, rows: Mapping[str, int]) -> str:
        # With the identifiers that it must not hold, so that it can be looked for them.
        record = to_record(replace(ended, alias=request.alias, subject=request.subject))
        places = [ErasedPlace(place, count, 0) for place, count in rows.items()]
        assert ended.ended_at is not None
        policy = knowledge().view(knowledge().epoch(ended.ended_at)).policy
        title = f"version {policy.version}" if policy else ""
        return sign(certificate(record, places, settings.opendsr_domain, ended.ended_at, title), key)  # type: ignore[arg-type]

    return certify
