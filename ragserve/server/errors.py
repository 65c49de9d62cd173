"""Every error as {"error": {"code", "message", "hint"}} with a status that says whose fault it is."""

from __future__ import annotations

import difflib
import http
import logging
from collections.abc import Sequence
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ragserve.errors import InvalidRequest, RagserveError, TypedError

_log = logging.getLogger("ragserve.server")

STATUS = {
    "empty-question": 422,
    "question-too-long": 422,
    "invalid-k": 422,
    "invalid-rounds": 422,
    "invalid-filter": 422,
    "invalid-query": 422,
    "invalid-request": 422,
    "empty-query": 422,
    "query-too-long": 422,
    "prompt-too-long": 422,
    "request-too-large": 413,
    "request-too-slow": 408,
    "host-not-allowed": 421,
    "server-busy": 503,
    "server-draining": 503,
    "server-not-ready": 503,
    "retriever-busy": 503,
    "retriever-closed": 503,
    "search-timed-out": 503,
    "index-busy": 503,
}
_HEADERS = {
    503: {"Retry-After": "1"},  # in seconds
    408: {"Connection": "close"},  # its body may still be on the way
}
_NOT_JSON = "The body is not JSON."
_SEE_FIELDS = "GET /docs shows the fields."


def error_document(error: Exception) -> tuple[int, dict[str, Any]]:
    """Returns the HTTP status and the document for an error; what is not ours is a 500 without details."""
    if isinstance(error, TypedError):
        return STATUS.get(error.code, 500), _document(error.code, error.message, error.hint)
    return 500, _document("internal-error", "The server failed to answer.", "Its log has the cause.")


def log_failure(error: Exception) -> None:
    """Writes an error that is not its sender's to mend to the log with what caused it, ours or not."""
    status, _ = error_document(error)
    if status == 500:
        _log.error("A request failed.", exc_info=error)


def error_response(error: Exception) -> JSONResponse:
    """Returns the response for an error."""
    status, document = error_document(error)
    return JSONResponse(document, status_code=status, headers=_HEADERS.get(status))


def install_handlers(app: FastAPI) -> None:
    """Makes every failure of a route answer in the one form, and logs those that get a 500."""

    def typed(_: Request, error: Exception) -> JSONResponse:
        log_failure(error)
        return error_response(error)

    def untyped(_: Request, error: Exception) -> JSONResponse:
        return error_response(error)  # uvicorn logs it: it is raised on after this

    def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(_invalid_request(error.errors()))

    def of_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        cause = error.__cause__  # of what was raised while FastAPI was reading the body
        if isinstance(cause, RagserveError):
            return error_response(cause)
        if isinstance(cause, (ValueError, RecursionError)):  # no UTF-8, a huge number, too many brackets
            return error_response(InvalidRequest(_NOT_JSON, hint=_SEE_FIELDS))
        code = http.HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        document = _document(code, f"{error.detail}.", "GET /docs lists what there is.")
        return JSONResponse(document, status_code=error.status_code, headers=error.headers)

    for base in get_args(TypedError):
        app.add_exception_handler(base, typed)
    app.add_exception_handler(Exception, untyped)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_http)


def _document(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "hint": hint}}


def _invalid_request(problems: Sequence[Any]) -> InvalidRequest:
    sentences, unknown = [], []
    for problem in problems:
        where = ".".join(str(part) for part in problem["loc"][1:] if isinstance(part, str))
        if problem["type"] == "extra_forbidden":
            unknown.append(str(problem["loc"][-1]))
            sentences.append(f"{where} is not a field.")
        elif problem["type"] == "json_invalid":
            sentences.append(_NOT_JSON)
        elif not where:
            sentences.append("The body is not a JSON object sent as application/json.")
        else:
            sentences.append(f"{where}: {problem['msg']}.")
    return InvalidRequest(" ".join(sentences), hint=_did_you_mean(unknown) or _SEE_FIELDS)


def _did_you_mean(unknown: Sequence[str]) -> str:
    from ragserve.server.schemas import AskRequest, FiltersBody

    known = [*AskRequest.model_fields, *FiltersBody.model_fields]
    for name in unknown:
        if close := difflib.get_close_matches(name, known, n=1, cutoff=0.5):
            return f"Did you mean {close[0]}?"
    return ""
