"""The face: a folder in, answers with verbatim citations out. Parts load when they are first needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from indexer.lazy import Lazy
from ragserve.answering import Answerer, AnswerGenerator, final_answer
from ragserve.answers import Answer, AnswerEvent, RetrievalEvent
from ragserve.errors import EmptyQuestion, InvalidK, PathNotFound, PipelineClosed, QuestionTooLong
from ragserve.rounds import FurtherRounds, IterativeAnswerer, check_rounds
from ragserve.settings import Settings
from retriever.prefetching import SearchOptions
from retriever.read_ahead import ReadAhead

if TYPE_CHECKING:
    from generator.cancellation import Cancellation
    from indexer import Index
    from indexer.embedding import Embedder
    from indexer.errors import IndexerError
    from indexer.image_embedding import ImageEmbedder
    from indexer.ingest import IngestProgress
    from indexer.types import FileStatus, Filters, IndexStats, IngestReport, VerifyReport
    from ragserve.session import Session
    from retriever import LookaheadSource, Retriever, SearchResult
    from retriever.prefetching import BatchSearcher


class Pipeline:
    """An index, a retriever and a generator behind one door; a context manager, safe to share among threads.

    Opening loads no model. `ingest` loads the embedder when there is something new to embed, `search` the
    embedder, `ask` both.
    """

    def __init__(
        self,
        index: Index,
        *,
        settings: Settings,
        embedder: Embedder,
        retriever: Lazy[Retriever],
        generator: Lazy[AnswerGenerator],
    ) -> None:
        self.index = index
        self.settings = settings
        self._embedder = embedder
        self._retriever = retriever
        self._generator = generator
        self._answerer = Answerer(
            generator,
            index.document_text,
            max_new_tokens=settings.max_new_tokens,
            score_band=settings.score_band,
        )
        self._iterative = IterativeAnswerer(
            self._answerer, ReadAhead(lambda *args, **options: retriever.get().read_ahead(*args, **options))
        )
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | Path | None = None,
        *,
        settings: Settings | None = None,
        embedder: Embedder | None = None,
        image_embedder: ImageEmbedder | None = None,
        generator: AnswerGenerator | None = None,
        create: bool = True,
        read_only: bool = False,
    ) -> Pipeline:
        """Opens the index folder `path` (default: the settings'), creating it if absent and `create` is set.

        `settings` defaults to `Settings()`; pass `Settings.load()` to heed the environment and ragserve.toml.
        `embedder`, `image_embedder` and `generator` are ready-made parts to use in place of the ones that the
        settings name.
        """
        from indexer.index import Index
        from ragserve import parts

        settings = settings or Settings()
        opened = embedder if embedder is not None else parts.open_embedder(settings)
        images = image_embedder if image_embedder is not None else parts.open_image_embedder(settings)
        index = Index.open(
            path if path is not None else settings.index,
            embedder=opened,
            image_embedder=images,
            create=create,
            read_only=read_only,
            device=settings.device,
            embedding_cache=parts.open_embedding_cache(settings),
            vectors=parts.vector_settings(settings),
        )
        return cls(
            index,
            settings=settings,
            embedder=opened,
            retriever=Lazy(
                lambda: parts.open_retriever(
                    index, opened, settings, image_embedder=images, read_only=read_only
                )
            ),
            generator=Lazy(lambda: generator if generator is not None else parts.open_generator(settings)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is being loaded, saves the cache if asked to, then closes the index.

        Closing twice does nothing.
        """
        if self._closed:
            return
        self._closed = True
        self._generator.join()
        self._retriever.join()
        retriever = self._retriever.peek()
        if retriever is not None:
            retriever.close()
        self.index.close()

    # --- filling the index ------------------------------------------------------------------------

    def ingest(
        self,
        paths: Iterable[str | Path],
        *,
        prune: bool | None = None,
        jobs: int | None = None,
        retry_failed: bool = False,
        password: str | None = None,
        progress: Callable[[IngestProgress], None] | None = None,
    ) -> IngestReport:
        """Brings the index up to date with files and folders; `prune` also forgets files that are gone.

        Unchanged files are neither parsed nor embedded, nor are those that failed before, unless
        `retry_failed`. `password` is tried on encrypted PDFs, in place of the one in the settings' password
        file; it is not kept. Raises PathNotFound before anything is done when a path does not exist, and
        InvalidSetting for a password file that cannot be read; a document that cannot be read is a failure
        in the report, not an exception.
        """
        named = self._existing(paths)
        return self._ingest(
            named, prune=prune, jobs=jobs, retry_failed=retry_failed, password=password, progress=progress
        )

    def watch(
        self,
        paths: Iterable[str | Path],
        *,
        prune: bool | None = None,
        jobs: int | None = None,
        retry_failed: bool = False,
        password: str | None = None,
        poll_seconds: float = 2.0,
        progress: Callable[[IngestProgress], None] | None = None,
        on_trouble: Callable[[IndexerError], None] = lambda _: None,
    ) -> Iterator[IngestReport]:
        """Ingests now and after every change, for ever; yields the reports.

        A full disk or another ingest is told to `on_trouble` and waited for, except in the first pass.
        Ctrl-C between two passes ends the iteration; within one it is raised. `retry_failed` goes for the
        first pass only.
        """
        from indexer.watching import watch

        named = self._existing(paths)
        retry = iter([retry_failed])

        def ingest(there: Iterable[str | os.PathLike[str]]) -> IngestReport:
            found = [Path(path) for path in there]
            return self._ingest(
                found,
                prune=prune,
                jobs=jobs,
                retry_failed=next(retry, False),
                password=password,
                progress=progress,
            )

        exclude = [self.index.folder]
        return watch(named, ingest, exclude=exclude, poll_seconds=poll_seconds, on_trouble=on_trouble)

    # --- asking -----------------------------------------------------------------------------------

    def search(
        self, query: str, *, k: int | None = None, filters: Filters | None = None, use_cache: bool = True
    ) -> SearchResult:
        """Returns the k passages nearest to a query, fewer when the corpus has fewer."""
        query, k = self.check_question(query), self.check_k(k)
        return self.retriever.search(query, k=k, filters=filters, use_cache=use_cache)

    def search_batch(
        self,
        queries: Sequence[str],
        *,
        k: int | None = None,
        filters: Filters | None = None,
        use_cache: bool = True,
    ) -> list[SearchResult]:
        """Searches for many queries in one embedding pass and one matrix product; results in their order."""
        checked, k = [self.check_question(query) for query in queries], self.check_k(k)
        if not checked:
            return []
        return self.retriever.search_batch(checked, k=k, filters=filters, use_cache=use_cache)

    def ask(
        self,
        question: str,
        *,
        k: int | None = None,
        filters: Filters | None = None,
        use_cache: bool = True,
        rounds: int = 1,
    ) -> Answer:
        """Answers a question from the k nearest passages.

        With more than one of `rounds`, a draft of the answer is searched with, too, and the answer made anew
        from the k best passages of all searches; up to so many times, as long as something new is found.
        Raises InvalidRounds.
        """
        return final_answer(
            self.ask_stream(question, k=k, filters=filters, use_cache=use_cache, rounds=rounds)
        )

    def ask_batch(
        self,
        questions: Sequence[str],
        *,
        k: int | None = None,
        filters: Filters | None = None,
        use_cache: bool = True,
        rounds: int = 1,
    ) -> list[Answer]:
        """Answers many questions, retrieving for all of them at once; answers in their order."""
        further = self.further_rounds(rounds, k=k, filters=filters, use_cache=use_cache)
        results = self.search_batch(questions, k=k, filters=filters, use_cache=use_cache)
        pairs = zip(questions, results, strict=True)
        return [
            final_answer(self.answer_stream(question, result, further=further)) for question, result in pairs
        ]

    def ask_stream(
        self,
        question: str,
        *,
        k: int | None = None,
        filters: Filters | None = None,
        use_cache: bool = True,
        rounds: int = 1,
    ) -> Iterator[AnswerEvent]:
        """Yields a RetrievalEvent, TokenEvents as the text is made, and a FinalEvent with the Answer.

        With several `rounds` there may be more RetrievalEvents before the first token: the answer is made
        from the last. The question is checked by the call, not by the first event. Closing the iterator stops
        generation.
        """
        question, k = self.check_question(question), self.check_k(k)
        further = self.further_rounds(rounds, k=k, filters=filters, use_cache=use_cache)
        search = partial(self.retriever.search, question, k=k, filters=filters, use_cache=use_cache)
        return self.searched_and_answered(question, search, further=further)

    def searched_and_answered(
        self, question: str, search: Callable[[], SearchResult], *, further: FurtherRounds | None
    ) -> Iterator[AnswerEvent]:
        """Yields what `ask_stream` does, from what `search` finds when the first event is asked for."""
        started = time.perf_counter()
        result = search()
        seconds = time.perf_counter() - started
        yield RetrievalEvent(result)
        yield from self.answer_stream(question, result, retrieval_seconds=seconds, further=further)

    def session(
        self, *, window: int = 3, guesses: bool = True, sources: Sequence[LookaheadSource] = ()
    ) -> Session:
        """Returns what searches and answers for one person, and retrieves ahead what comes next.

        See `Session`; the caller closes it, before this pipeline.
        """
        from ragserve.session import Session

        return Session(self, window=window, guesses=guesses, sources=sources)

    def further_rounds(
        self,
        rounds: int,
        *,
        k: int | None = None,
        filters: Filters | None = None,
        use_cache: bool = True,
        searcher: BatchSearcher | None = None,
        load: Callable[[], float] = lambda: 0.0,
    ) -> FurtherRounds | None:
        """Returns what `answer_stream` takes for so many rounds in all, None for one.

        `searcher` is what searches in place of the pipeline's own retriever, and `load` how many others wait
        for it. Raises InvalidRounds.
        """
        if check_rounds(rounds) == 1:
            return None
        options = SearchOptions(self.check_k(k), filters, use_cache)
        searcher = searcher if searcher is not None else self.retriever

        def load_with_answers() -> float:  # every search ahead is beside one draft at least
            return load() + (max(self.cpu_load, 1) if self.generates_on_cpu else 0)

        return FurtherRounds(rounds, searcher, options, load_with_answers)

    def answer_stream(
        self,
        question: str,
        result: SearchResult,
        *,
        retrieval_seconds: float | None = None,
        queue_seconds: float = 0.0,
        cancellation: Cancellation | None = None,
        further: FurtherRounds | None = None,
    ) -> Iterator[AnswerEvent]:
        """Yields TokenEvents and a FinalEvent for a question whose passages are found already.

        The seconds go into the answer's timings: how long the caller waited for the result, and with it.
        `cancellation` ends it from another thread, at once where the generator heeds it. `further` (see
        `further_rounds`) retrieves again with what is answered.
        """
        seconds = result.timings.get("total", 0.0) if retrieval_seconds is None else retrieval_seconds
        question = self.check_question(question)
        made = self._answerer.events if further is None else partial(self._iterative.events, further=further)
        return made(
            question,
            result,
            retrieval_seconds=seconds,
            queue_seconds=queue_seconds,
            cancellation=cancellation,
        )

    # --- looking after it -------------------------------------------------------------------------

    def stats(self) -> IndexStats:
        """Returns how much is indexed, with what."""
        self._check_open()
        return self.index.stats()

    def verify(self) -> VerifyReport:
        """Checks the index against itself."""
        self._check_open()
        return self.index.verify()

    def doctor(self) -> list[FileStatus]:
        """Returns every file that is not searchable, and why."""
        self._check_open()
        return self.index.doctor()

    @property
    def generates_on_cpu(self) -> bool:
        """Whether answers are made where searches are, so that one holds up the other; no until loaded."""
        return self._answerer.generates_on_cpu

    @property
    def cpu_load(self) -> int:
        """How many answers are being made on the CPU."""
        return self._answerer.num_generating if self.generates_on_cpu else 0

    def generation_stats(self) -> Mapping[str, float]:
        """Returns what the generator has done so far, by name; nothing before it is loaded."""
        read = getattr(self._generator.peek(), "stats", None)  # a generator of the user's own may have none
        return {} if read is None else read()

    # --- loading ----------------------------------------------------------------------------------

    @property
    def retriever(self) -> Retriever:
        """The retriever over this index, made on first use."""
        self._check_open()
        return self._retriever.get()

    def preload(self) -> None:
        """Begins to load the models in the background, side by side."""
        self._check_open()
        self._generator.start()
        begin = getattr(self._embedder, "start_loading", None)  # an embedder of the user's own may have none
        if begin is not None:
            begin()

    def warm_up(self) -> None:
        """Loads every model and runs each once, so that the next question pays for nothing but itself."""
        self.preload()
        result = self.retriever.search("warm up", k=1, use_cache=False)
        self._generator.get()
        if result.hits:
            final_answer(self.answer_stream("warm up", result))

    # --- checks -----------------------------------------------------------------------------------

    def check_question(self, question: str) -> str:
        """Returns the question as the parts below can read it. Raises EmptyQuestion and QuestionTooLong."""
        self._check_open()
        limit = self.settings.max_question_chars
        if len(question) > limit:
            raise QuestionTooLong(
                f"The question has {len(question):,} characters, the limit is {limit:,}.",
                hint="Ask a shorter one; documents are ingested, not asked.",
            )
        # A shell hands over undecodable bytes as lone surrogates, which no tokenizer takes.
        question = question.encode("utf-8", "replace").decode("utf-8").strip()
        if not any(character.isprintable() and not character.isspace() for character in question):
            raise EmptyQuestion("The question is empty.", hint="Ask something in words.")
        return question

    def check_k(self, k: int | None) -> int:
        """Returns how many passages to retrieve, or raises InvalidK."""
        k = self.settings.k if k is None else k
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InvalidK(
                f"k is {k!r}, but at least 1 passage is needed.", hint="Use a whole number from 1."
            )
        return k

    # --- inside -----------------------------------------------------------------------------------

    def _existing(self, paths: Iterable[str | Path]) -> list[Path]:
        """The paths, or PathNotFound if any of them does not exist."""
        self._check_open()
        named = [Path(path) for path in paths]
        missing = [str(path) for path in named if not os.path.lexists(path)]
        if missing:
            message = f"There is no file or folder {' and no '.join(missing)}."
            raise PathNotFound(message, hint="Nothing was ingested; check the spelling.")
        return named

    def _ingest(
        self,
        paths: list[Path],
        *,
        prune: bool | None,
        jobs: int | None,
        retry_failed: bool,
        password: str | None,
        progress: Callable[[IngestProgress], None] | None,
    ) -> IngestReport:
        from ragserve import parts

        parsing = self.settings.parsing
        return self.index.ingest(
            paths,
            prune=self.settings.prune if prune is None else prune,
            jobs=jobs if jobs is not None else self.settings.jobs,
            progress=progress,
            parse_options=parts.parse_options(parsing, password=password),
            parse_limits=parts.parse_limits(parsing),
            retry_failed=retry_failed,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise PipelineClosed("This pipeline is closed.", hint="Open it again with Pipeline.open().")
