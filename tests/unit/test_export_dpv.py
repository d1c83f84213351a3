"""DPV JSON-LD of a lineage: parsed by rdflib and pyld without loading anything, and asked in SPARQL."""

import json
from typing import Any

import pytest
from pyld import jsonld
from rdflib import DCTERMS, RDF, Graph, Literal, Namespace, URIRef

from audit.exports.export import export_lineage
from tests.unit.exported_lives import SUBJECT, background, consent, life, lineage

# rdflib warns of its own parsers.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib")

DPV = Namespace("https://w3id.org/dpv#")
LIN = Namespace("urn:disclosure-lineage:term:")
PERSON = URIRef(f"urn:uuid:{SUBJECT}")


def exported(person: dict[str, Any]) -> bytes:
    return b"".join(export_lineage(person, "dpv-jsonld", background()).content)


@pytest.fixture(scope="module")
def person() -> dict[str, Any]:
    return lineage(life(80))


@pytest.fixture(scope="module")
def graph(person: dict[str, Any]) -> Graph:
    return Graph().parse(data=exported(person), format="json-ld")


def refuse(url: str, _options: Any) -> Any:
    raise AssertionError(f"{url} would be loaded")


def test_both_readers_find_the_same_and_nothing_is_loaded(person: dict[str, Any], graph: Graph) -> None:
    document = json.loads(exported(person))
    quads = jsonld.to_rdf(document, {"documentLoader": refuse, "format": "application/n-quads"})
    assert len(Graph().parse(data=quads, format="nquads")) == len(graph) > 100
    # Every key is of the context: what is not would be dropped in silence.
    for node in document["@graph"]:
        assert {key for key in node if not key.startswith("@")} <= document["@context"].keys()


def test_processes_tell_purpose_recipient_basis_and_lawfulness(person: dict[str, Any], graph: Graph) -> None:
    judged = [event for event in person["events"] if event["verdict"] is not None]
    counted = sum(int(str(o)) for o in graph.objects(None, LIN.events))
    assert counted == len(judged) == len(set(graph.objects(predicate=LIN.event)) & _ids(judged))
    found = graph.query(
        """
        PREFIX dpv: <https://w3id.org/dpv#> PREFIX dct: <http://purl.org/dc/terms/>
        PREFIX skos: <http://www.w3.org/2004/02/skos/core#> PREFIX lin: <urn:disclosure-lineage:term:>
        SELECT ?name ?contact ?term ?use ?lawful WHERE {
          ?process a dpv:Process ; dpv:hasRecipient ?who ; dpv:hasPurpose ?why ; dpv:hasLawfulness ?lawful .
          ?who dct:identifier "lumen-analytics" ; dpv:hasName ?name ; dpv:hasContact ?contact .
          ?why skos:broader ?term ; lin:dataUse ?use .
        }"""
    )
    rows = {tuple(map(str, row)) for row in found}
    told = ("Lumen Analytics", "privacy@lumen.example", str(DPV.ServiceOptimisation), "functional.service.improve")
    assert rows
    assert {row[:4] for row in rows} == {told}
    assert {row[4] for row in rows} <= {str(DPV.Lawful), str(DPV.Unlawful)}
    assert (None, DPV.hasLegalBasis, DPV.LegalObligation) in graph
    assert (None, DPV.hasDataSubject, PERSON) in graph


def _ids(events: list[dict[str, Any]]) -> set[Any]:
    return {URIRef(f"urn:uuid:{event['event_id']}") for event in events}


def test_consents_have_their_states(graph: Graph) -> None:
    records = set(graph.subjects(RDF.type, DPV.ConsentRecord))
    states = {
        str(kind) for record in records for state in graph.objects(record, DPV.hasConsentStatus)
        for kind in graph.objects(state, RDF.type)
    }  # fmt: skip
    assert states == {str(DPV.ConsentGiven), str(DPV.ConsentWithdrawn)}


def test_times_are_moments_and_counts_are_numbers(graph: Graph) -> None:
    [made] = graph.subjects(RDF.type, DPV.DataProcessingRecord)
    [created] = graph.objects(made, DCTERMS.created)
    assert isinstance(created, Literal)
    assert created.toPython().isoformat() == "2026-07-01T00:00:00+00:00"


def test_two_people_do_not_run_into_each_other(person: dict[str, Any]) -> None:
    other = {**lineage([consent("accept", 0, consent_version=1), *life(40, seed=3)]), "subject": str(SUBJECT)[::-1]}
    first, second = (Graph().parse(data=exported(one), format="json-ld") for one in (person, other))
    # Common are things that both lineages speak of: purposes, recipients, categories, policies, the operator.
    common = {s for s in first.subjects(RDF.type) if s in set(second.subjects(RDF.type))}
    kinds = {kind for s in common for kind in first.objects(s, RDF.type)}
    assert not kinds & {DPV.Process, DPV.ConsentRecord, DPV.DataSubject, DPV.DataProcessingRecord}


def test_of_nobody_the_graph_is_empty() -> None:
    assert len(Graph().parse(data=exported({"subject": None, "events": []}), format="json-ld")) == 0
