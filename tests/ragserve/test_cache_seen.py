"""What the cache has served, from which tier and how surely, as people, programs and monitoring see it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from ragserve import Pipeline, Settings
from ragserve.cli import render
from ragserve.server import create_app
from ragserve.settings import CacheSettings

QUESTION, OTHER = "Who designed the bridge?", "What does crossing cost?"


def settings_that_guess() -> Settings:
    """Every answer from a past question is served without proof, and audited."""
    cache = CacheSettings(max_false_hit_rate=1.0, audit_share=1.0, similarity_threshold=-1.0, candidates=2)
    return replace(Settings(), cache=cache)


def test_a_proven_answer_shows_its_certificate_over_http(pipeline: Pipeline):
    with TestClient(create_app(pipeline)) as client:
        client.post("/search", json={"query": QUESTION, "k": 3})
        found = client.post("/search", json={"query": QUESTION, "k": 2}).json()
        answered = client.post("/ask", json={"question": QUESTION, "k": 1}).json()["retrieval"]
    for retrieval in (found, answered):
        assert retrieval["tier"] == "certified"
        certificate = retrieval["explanation"]
        assert (certificate["similarity"], certificate["similar_query"]) == (1.0, QUESTION)
        assert certificate["lists"] == 1
        assert "bound" in certificate
        assert {"embed", "cache", "total"} <= set(retrieval["timings"])


def test_an_answer_without_proof_shows_what_it_rests_on_and_the_bound_of_the_audits(
    index, embedder, generator
):
    opened = Pipeline.open(index, settings=settings_that_guess(), embedder=embedder, generator=generator)
    with opened as pipeline:
        pipeline.search(QUESTION, k=1)
        found = pipeline.search("Who has designed that bridge?", k=1)
    shown = render.explanation(found, 80).splitlines()
    assert shown[0] == "Retrieval: approximate"
    names = [line.split(":")[0].strip() for line in shown]
    wanted = {"similarity", "similar_query", "alignment", "probability_wrong", "audited_upper_bound", "total"}
    assert wanted <= set(names)


def test_a_proven_answer_is_explained_to_people(pipeline: Pipeline):
    pipeline.search(QUESTION, k=3)
    shown = render.explanation(pipeline.search(QUESTION, k=2), 80)
    assert shown.startswith("Retrieval: certified\n")
    for name in ("similarity", "similar_query", "bound", "total"):
        assert f"\n  {name}: " in shown


def figures_of(client: TestClient) -> dict[str, float]:
    lines = [line.split() for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("ragserve_"): float(value) for name, value in lines}


def test_searches_are_counted_by_the_tier_that_answered_them(pipeline: Pipeline):
    with TestClient(create_app(pipeline)) as client:
        for question in (QUESTION, QUESTION, OTHER):
            client.post("/search", json={"query": question})
        client.post("/search", json={"query": QUESTION, "k": 1})
        client.post("/search", json={"query": OTHER, "use_cache": False})
        figures = figures_of(client)
    # So few chunks are all on the first question's list, which so proves whatever comes after.
    assert [figures[f"searches_{tier}_total"] for tier in ("exact", "certified", "miss")] == [1, 2, 1]
    assert (figures["cache_lists"], figures["cache_vectors"], figures["cache_results"]) == (1, 2, 3)
    assert 0 < figures["cache_bytes"] < figures["cache_max_bytes"]
    assert figures["cache_evictions_total"] == 0


def test_what_audits_have_found_is_published_with_its_upper_bound(index, embedder, generator, monkeypatch):
    opened = Pipeline.open(index, settings=settings_that_guess(), embedder=embedder, generator=generator)
    with opened as pipeline, TestClient(create_app(pipeline)) as client:
        client.post("/search", json={"query": QUESTION})
        assert figures_of(client)["cache_false_hit_rate_upper_bound"] == 1
        audit = pipeline.retriever.cache.stats().audit._replace(num_audited=299, num_false_hits=0)
        monkeypatch.setattr(pipeline.retriever.cache._calibrators, "audit", lambda: audit)
        figures = figures_of(client)
    assert (figures["cache_audited"], figures["cache_false_hits"]) == (299, 0)
    assert figures["cache_false_hit_rate_upper_bound"] == pytest.approx(0.01, abs=1e-4)


def test_without_a_cache_there_are_no_figures_of_one(pipeline: Pipeline, monkeypatch):
    monkeypatch.setattr(pipeline.retriever, "cache", None)
    with TestClient(create_app(pipeline)) as client:
        client.post("/search", json={"query": QUESTION})
        assert not [name for name in figures_of(client) if name.startswith("cache_")]
