"""What can go wrong in the face: settings, questions, and the server."""

from __future__ import annotations

from generator.errors import GeneratorError
from indexer.errors import IndexerError
from retriever.errors import RetrieverError


class RagserveError(Exception):
    """Base of the ragserve package's errors: one sentence of cause, one of remedy, and a stable code."""

    code = "ragserve-error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UnknownSetting(RagserveError):
    """A key that no setting has, in a flag, the environment or ragserve.toml."""

    code = "unknown-setting"


class InvalidSetting(RagserveError):
    """A setting's value has the wrong type or is out of range."""

    code = "invalid-setting"


class EmptyQuestion(RagserveError):
    """The question has no visible character."""

    code = "empty-question"


class QuestionTooLong(RagserveError):
    """The question is longer than the settings allow."""

    code = "question-too-long"


class InvalidK(RagserveError):
    """The number of passages asked for is not a positive integer, or above the server's bound."""

    code = "invalid-k"


class InvalidRounds(RagserveError):
    """The number of times to retrieve for a question is not one that there can be."""

    code = "invalid-rounds"


class InvalidFilter(RagserveError):
    """A filter names a kind of chunk that does not exist."""

    code = "invalid-filter"


class PathNotFound(RagserveError):
    """A file or folder that was named does not exist."""

    code = "path-not-found"


class PipelineClosed(RagserveError):
    """A pipeline was used after it was closed."""

    code = "pipeline-closed"


class PortInUse(RagserveError):
    """Another process listens on the address already."""

    code = "port-in-use"


class AddressUnavailable(RagserveError):
    """The address cannot be bound: not this machine's, or not allowed."""

    code = "address-unavailable"


class InvalidRequest(RagserveError):
    """The body of an HTTP request does not have the documented form."""

    code = "invalid-request"


class RequestTooLarge(RagserveError):
    """The body of an HTTP request is larger than the server accepts."""

    code = "request-too-large"


class RequestTooSlow(RagserveError):
    """The body of an HTTP request did not come in the time that the server waits for it."""

    code = "request-too-slow"


class HostNotAllowed(RagserveError):
    """The Host header names a host that this server does not answer for."""

    code = "host-not-allowed"


class ServerBusy(RagserveError):
    """As many requests as the server accepts are running or waiting."""

    code = "server-busy"


class ServerDraining(RagserveError):
    """The server is shutting down and finishes only what it has begun."""

    code = "server-draining"


class ServerNotReady(RagserveError):
    """The models are still being loaded."""

    code = "server-not-ready"


class AnswerMissing(RagserveError):
    """A generator ended without an answer."""

    code = "answer-missing"


TypedError = RagserveError | RetrieverError | IndexerError | GeneratorError
"""What the four packages raise on purpose: each has a `message`, a `hint` and a `code`."""
