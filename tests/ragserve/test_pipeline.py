from __future__ import annotations

import sys
import threading

import pytest
import torch
from ragserve_fakes import BestLineGenerator, HashingEmbedder

from generator.types import AnswerSpan, GroundedAnswer, TokenEvent, Usage
from indexer.errors import EmbedderMismatch, IndexNotFound
from indexer.types import Filters
from ragserve import FinalEvent, Pipeline, RetrievalEvent, Settings
from ragserve import TokenEvent as AnswerToken
from ragserve.errors import (
    AnswerMissing,
    EmptyQuestion,
    InvalidK,
    InvalidSetting,
    PathNotFound,
    PipelineClosed,
    QuestionTooLong,
)

QUESTION = "Who designed the Lantern bridge?"


def test_an_answer_quotes_its_document_verbatim(pipeline):
    answer = pipeline.ask(QUESTION)
    assert answer.supported
    (citation,) = answer.citations
    assert citation.quote == "Mara Ellison designed the Lantern bridge in 1931."
    assert pipeline.index.document_text(citation.document_id)[citation.start : citation.end] == citation.quote
    assert answer.hits[citation.mark - 1].chunk.id == citation.chunk_id
    assert f"[{citation.mark}]" in answer.text
    parts = ("retrieval", "queue", "load", "generation")
    assert set(answer.timings) == {*parts, "first_token", "total"}
    assert answer.timings["total"] == pytest.approx(sum(answer.timings[part] for part in parts))
    assert 0 < answer.timings["first_token"] <= answer.timings["generation"]


def test_a_stream_is_a_retrieval_tokens_and_the_answer_they_make(pipeline):
    first, *tokens, last = pipeline.ask_stream(QUESTION)
    assert isinstance(first, RetrievalEvent)
    assert all(isinstance(event, AnswerToken) for event in tokens)
    assert isinstance(last, FinalEvent)
    assert "".join(event.text for event in tokens) == last.answer.text
    assert last.answer.retrieval is first.result


def test_a_wrong_question_is_an_error_of_the_call_and_not_of_the_first_event(pipeline):
    with pytest.raises(EmptyQuestion):
        pipeline.ask_stream("  ")


@pytest.mark.parametrize("question", ["", " \n\t", "\u200b\u200b", "\x00"])
def test_a_question_without_a_visible_character_is_empty(pipeline, question):
    for ask in (pipeline.ask, pipeline.search):
        with pytest.raises(EmptyQuestion):
            ask(question)


def test_the_length_of_a_question_is_bounded(pipeline):
    assert pipeline.search("x" * 10_000).hits
    with pytest.raises(QuestionTooLong, match="10,001 characters"):
        pipeline.search("x" * 10_001)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "3"])
def test_k_is_a_whole_number_from_1(pipeline, k):
    with pytest.raises(InvalidK):
        pipeline.search("bridge", k=k)


def test_without_k_the_settings_decide(index, embedder):
    with Pipeline.open(index, settings=Settings(k=2), embedder=embedder) as pipeline:
        assert len(pipeline.search("bridge").hits) == 2
        assert len(pipeline.search("bridge", k=1).hits) == 1


def test_many_searches_at_once_find_what_each_finds_alone(pipeline):
    queries = [QUESTION, "apple trees", "tide", QUESTION]
    together = pipeline.search_batch(queries, k=3, use_cache=False)
    alone = [pipeline.search(query, k=3, use_cache=False) for query in queries]
    assert [result.hits for result in together] == [result.hits for result in alone]
    assert pipeline.search_batch([]) == []


def test_many_questions_at_once_get_the_answers_that_each_gets_alone(pipeline):
    questions = [QUESTION, "Where do herons nest?"]
    answers = pipeline.ask_batch(questions)
    assert [answer.question for answer in answers] == questions
    assert [answer.text for answer in answers] == [pipeline.ask(question).text for question in questions]


def test_a_filter_that_matches_nothing_is_an_unsupported_answer_without_a_generator(pipeline, generator):
    answer = pipeline.ask(QUESTION, filters=Filters(path_glob="/nowhere/*"))
    assert not answer.supported
    assert answer.hits == answer.citations == ()
    assert answer.text
    assert generator.num_calls == 0


class ScriptedGenerator:
    """Says what it is told to about the first passage, after something has happened."""

    def __init__(self, spans, before=lambda: None):
        self.spans = spans
        self.before = before

    def answer_stream(self, question, passages, **options):
        self.before()
        passage_id = passages[0][0]
        yield TokenEvent("So it is [1].")
        spans = tuple(AnswerSpan(passage_id, *span) for span in self.spans)
        yield GroundedAnswer("So it is [1].", True, 0.9, spans, (passage_id,), Usage(1, 1))


def test_a_citation_that_does_not_hold_is_dropped_and_counted(index, embedder):
    with Pipeline.open(
        index, embedder=embedder, generator=ScriptedGenerator([(0, 4), (0, 10_000)])
    ) as pipeline:
        answer = pipeline.ask(QUESTION)
    assert (len(answer.citations), answer.num_dropped_citations) == (1, 1)
    assert answer.supported


def test_an_answer_whose_every_citation_falls_is_not_supported(index, embedder):
    with Pipeline.open(index, embedder=embedder, generator=ScriptedGenerator([(5, 2)])) as pipeline:
        answer = pipeline.ask(QUESTION)
    assert not answer.supported
    assert answer.to_dict()["retrieval"]["num_dropped_citations"] == 1


def test_a_document_that_changes_while_it_is_read_is_not_misquoted(index, corpus, embedder):
    def rewrite():
        (corpus / "bridge.md").write_text("Nobody designed it.\n")
        with Pipeline.open(index, embedder=HashingEmbedder()) as other:
            other.ingest([corpus], jobs=1)

    generator = ScriptedGenerator([(0, 4)], before=rewrite)
    with Pipeline.open(index, embedder=embedder, generator=generator) as pipeline:
        answer = pipeline.ask(QUESTION)
    assert answer.citations == ()
    assert answer.num_dropped_citations == 1


def test_a_generator_that_ends_without_an_answer_is_a_typed_error(index, embedder):
    class Silent:
        def answer_stream(self, question, passages, **options):
            yield TokenEvent("Well")

    with (
        Pipeline.open(index, embedder=embedder, generator=Silent()) as pipeline,
        pytest.raises(AnswerMissing),
    ):
        pipeline.ask(QUESTION)


def test_the_reader_takes_no_adapter(index, embedder):
    settings = Settings(adapter="lora")
    with (
        Pipeline.open(index, settings=settings, embedder=embedder) as pipeline,
        pytest.raises(InvalidSetting),
    ):
        pipeline.ask(QUESTION)


def test_an_abandoned_stream_stops_the_generator(pipeline, generator):
    events = pipeline.ask_stream(QUESTION)
    next(event for event in events if isinstance(event, AnswerToken))
    events.close()
    assert generator.num_closed == 1
    assert generator.num_tokens < 5


@pytest.mark.parametrize(
    ("device", "load"), [(None, 0), ("cuda", 0), (torch.device("cuda:0"), 0), ("cpu", 1)]
)
def test_an_answer_is_a_load_on_the_processor_while_it_is_made_there(pipeline, generator, device, load):
    if device is not None:
        generator.device = device
    pipeline.ask(QUESTION)  # where a generator computes shows when it is there
    assert pipeline.cpu_load == 0
    loads = [(type(event), pipeline.cpu_load) for event in pipeline.ask_stream(QUESTION)]
    assert {now for kind, now in loads if kind is AnswerToken} == {load}
    assert loads[-1] == (FinalEvent, 0)  # whole, though not read to its end


def test_searches_beside_drafts_count_those_and_all_other_answers_that_are_made_on_the_cpu(
    pipeline, generator
):
    generator.device = torch.device("cpu")
    further = pipeline.further_rounds(2, load=lambda: 0.5)
    assert further.load() == 0.5  # nobody knows yet
    pipeline.ask(QUESTION)
    assert further.load() == 1.5
    others = [pipeline.ask_stream(QUESTION) for _ in range(3)]
    for events in others:
        assert isinstance(next(events), RetrievalEvent)
        assert isinstance(next(events), AnswerToken)
    assert further.load() == 3.5
    for events in others:
        events.close()
    assert further.load() == 1.5


def test_the_models_are_loaded_when_they_are_needed_and_not_before(index, corpus, embedder, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "ragserve.parts.open_generator", lambda settings: loaded.append(1) or BestLineGenerator()
    )
    with Pipeline.open(index, embedder=embedder) as pipeline:
        assert pipeline.ingest([corpus], jobs=1).unchanged == 3
        pipeline.stats()
        pipeline.verify()
        pipeline.doctor()
        assert embedder.num_calls == 0
        pipeline.search("bridge")
        assert embedder.num_calls == 1
        assert not loaded
        pipeline.ask(QUESTION)
        pipeline.ask(QUESTION)
        assert len(loaded) == 1


def test_preloading_loads_once_in_the_background(index, embedder, monkeypatch):
    threads = []

    def load(settings):
        threads.append(threading.current_thread())
        return BestLineGenerator()

    monkeypatch.setattr("ragserve.parts.open_generator", load)
    with Pipeline.open(index, embedder=embedder) as pipeline:
        pipeline.preload()
        assert pipeline.ask(QUESTION).supported
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    assert not threads[0].is_alive()


def test_threads_may_share_a_pipeline(pipeline):
    expected = pipeline.ask(QUESTION).text
    texts, failures = [], []

    def ask():
        try:
            texts.extend(pipeline.ask(QUESTION, use_cache=number % 2 == 0).text for number in range(5))
        except Exception as error:  # noqa: BLE001  reported below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert texts == [expected] * 40


def test_a_closed_pipeline_says_that_it_is_closed(index, embedder):
    pipeline = Pipeline.open(index, embedder=embedder)
    pipeline.close()
    pipeline.close()
    for use in (lambda: pipeline.search("x"), lambda: pipeline.ask("x"), pipeline.stats, pipeline.preload):
        with pytest.raises(PipelineClosed):
            use()


def test_opening_creates_an_index_only_if_it_may(tmp_path, embedder):
    with pytest.raises(IndexNotFound):
        Pipeline.open(tmp_path / "new", embedder=embedder, create=False)
    Pipeline.open(tmp_path / "new", embedder=embedder).close()
    Pipeline.open(tmp_path / "new", embedder=embedder, create=False).close()


def test_an_index_from_another_embedder_cannot_be_searched(index, embedder, monkeypatch):
    monkeypatch.setattr(HashingEmbedder, "fingerprint", "words-65")
    with pytest.raises(EmbedderMismatch):
        Pipeline.open(index, embedder=embedder)


def test_a_path_that_is_not_there_stops_an_ingest_before_it_begins(pipeline, corpus):
    (corpus / "new.txt").write_text("Something new.")
    with pytest.raises(PathNotFound, match="nowhere"):
        pipeline.ingest([corpus, "nowhere"])
    assert pipeline.stats().documents == 3


def test_importing_the_package_imports_no_model_library():
    import subprocess

    script = "import sys, ragserve; ragserve.Pipeline; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "sentence_transformers", "faiss"} & set(modules.stdout.split())
