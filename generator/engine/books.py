"""The engine's books: which samples are unfinished, whose they are, and who hears of them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

from generator.engine.requests import RequestProgress
from generator.engine.sample import Sample
from generator.engine.scheduler import Scheduler
from generator.engine.sequence import Piece
from generator.errors import GeneratorError, InvalidRequest

Listener = Callable[[RequestProgress], None]


class Books:
    """Samples by sequence and by request, in step with the scheduler. Not thread-safe: the engine locks."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.samples: dict[int, Sample] = {}  # unfinished and known to the scheduler, by sequence id
        self._scheduler = scheduler
        self._requests: dict[str, list[Sample]] = {}  # with an unfinished sample
        self._listeners: dict[str, Listener] = {}

    def open(self, first: Sample, listener: Listener | None) -> None:
        """Begin a request with its first sample. Raises InvalidRequest where its id is taken."""
        request_id = first.request.request_id
        if request_id in self._requests:
            raise InvalidRequest(
                f"There is a request {request_id!r} already.",
                hint="Give each an id of its own, or none.",
            )
        self._requests[request_id] = [first]
        self.samples[first.sequence.sequence_id] = first
        if listener is not None:
            self._listeners[request_id] = listener
        self._scheduler.add(first.sequence)

    def of_request(self, request_id: str) -> list[Sample]:
        """All samples of an unfinished request that were made so far, finished ones too."""
        return self._requests.get(request_id, [])

    def fork(self, parent: Sample, child: Sample) -> None:
        """Let a sibling go its own way from what its parent has computed."""
        self.samples[child.sequence.sequence_id] = child
        self._scheduler.fork(parent.sequence, child.sequence)

    def alive(self, plan: Seq[Piece]) -> list[Sample]:
        """The samples of a plan that were not cancelled meanwhile."""
        ids = (piece.sequence.sequence_id for piece in plan)
        return [self.samples[number] for number in ids if number in self.samples]

    def fail(self, samples: Seq[Sample], error: GeneratorError) -> list[RequestProgress]:
        """End samples with an error; the others never notice."""
        for each in samples:
            each.fail(error)
            self.retire(each)
        return [each.progress() for each in samples]

    def retire(self, sample: Sample) -> None:
        """Take a finished sample out, and its request with the last of them."""
        if self.samples.pop(sample.sequence.sequence_id, None) is not None:
            self._scheduler.finish(sample.sequence)
        if all(each.finished for each in self.of_request(sample.request.request_id)):
            self._requests.pop(sample.request.request_id, None)

    def addressees(self, news: Seq[RequestProgress]) -> list[tuple[RequestProgress, Listener]]:
        """Who is to hear what. Listeners of requests that are over are struck off with their last news."""
        pairs = [
            (progress, self._listeners[progress.request_id])
            for progress in news
            if progress.request_id in self._listeners
        ]
        for request_id in {progress.request_id for progress in news} - self._requests.keys():
            self._listeners.pop(request_id, None)
        return pairs

    def check_integrity(self) -> None:
        """Raise AssertionError where books and scheduler disagree. For tests."""
        self._scheduler.check_integrity()
        alive = {each.sequence_id for each in (*self._scheduler.waiting, *self._scheduler.running)}
        assert alive == set(self.samples), "a sequence without a sample, or the other way round"
        assert set(self._listeners) <= set(self._requests)
