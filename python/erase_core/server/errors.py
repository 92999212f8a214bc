"""Errors as the server answers them: status, and a body in OpenAI's form that repeats nothing of the request.

Messages of erase_core often name ids and subjects, and those of pydantic repeat what was sent. So only messages that
are known to contain neither are passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from erase_core import errors
from erase_core.errors import EraseError, ScrubError, first_line
from erase_core.server.log import log_failure, logger

__all__ = ["HANDLERS", "ApiError", "body_of", "response_for"]

RETRY_SOON = 1
INVALID, DENIED, SERVER = "invalid_request_error", "permission_error", "server_error"


class ApiError(Exception):
    """An error to answer with.

    Parameters
    ----------
    status : int
    code : str
        What is wrong, for programs.
    message : str
        What is wrong, for people. It repeats nothing of the request.
    retry_after : str or None, default=None
        The header `Retry-After`.
    headers : mapping, default={}
        Further headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = retry_after


class Meaning(NamedTuple):
    """How an error of erase_core is answered. A message of None: the first sentence of the error's own."""

    status: int
    code: str
    message: str | None


OPERATOR = "Tell the operator of this server: its log says where."
# The most specific class counts.
MEANINGS: dict[type[Exception], Meaning] = {
    errors.UnknownIdError: Meaning(
        404, "unknown_id", "An id is not in the store; nothing was forgotten. Leave it out, or give on_missing=skip."
    ),
    errors.UnknownSubjectError: Meaning(
        404,
        "unknown_subject",
        "No example is about a subject of the request; nothing was forgotten. Other spellings are included by "
        "match=normalised; on_missing=skip skips what is missing.",
    ),
    errors.ForgottenError: Meaning(
        409,
        "forgotten",
        "An example was forgotten, or is about a subject that was; nothing was added. Leave such examples out "
        "(on_forgotten=skip), or add them again on purpose (on_forgotten=allow).",
    ),
    errors.DuplicateIdError: Meaning(
        409,
        "duplicate_id",
        "An id is in the store already; nothing was added. To replace an example, forget it first, and add the new one "
        "with on_forgotten=allow. on_duplicate=skip skips those with the same content.",
    ),
    errors.IdKindError: Meaning(
        422,
        "id_type",
        "The ids of a store are all integers or all texts, and an id is of the other kind; nothing was done.",
    ),
    errors.ExampleError: Meaning(422, "invalid_example", None),
    errors.SourceError: Meaning(422, "invalid_example", "There are no examples, or one has no input or no output."),
    errors.DataError: Meaning(422, "invalid_example", "An example cannot be added; nothing was added."),
    errors.ParameterError: Meaning(
        400, "invalid_value", "A value of the request is empty, out of range, or has a character that is refused."
    ),
    errors.PromptTooLongError: Meaning(400, "context_length_exceeded", None),
    errors.StoreLockedError: Meaning(
        503, "store_locked", "Another process is writing to the store; nothing was done. Try again."
    ),
    errors.ScrubError: Meaning(
        500,
        "removal_not_finished",
        "The removal is done, but keys of the examples may still be there, or the receipt is not published. The "
        f"operator must open the store again to finish it. {OPERATOR}",
    ),
    errors.UncertainError: Meaning(
        500,
        "uncertain",
        f"The disk failed at the end of a write. The status of the store shows whether it counts. {OPERATOR}",
    ),
    errors.ReceiptError: Meaning(500, "receipts", f"The receipts or a key do not allow this. {OPERATOR}"),
    errors.StoreError: Meaning(500, "store", f"The store cannot be read or written. {OPERATOR}"),
    errors.EmbedderError: Meaning(500, "embedding_model", f"The embedding model cannot be used. {OPERATOR}"),
    errors.LLMError: Meaning(500, "language_model", f"The language model gave no answer. {OPERATOR}"),
    errors.MissingPackageError: Meaning(500, "missing_package", f"A package is not installed. {OPERATOR}"),
    errors.EraseError: Meaning(500, "unexpected", f"Something unexpected happened. {OPERATOR}"),
}
UNEXPECTED = Meaning(500, "unexpected", f"Something unexpected happened. {OPERATOR}")
STATUSES = {
    404: ("not_found", "There is nothing at this path. The base URL of an OpenAI client ends in /v1. See /docs."),
    405: ("method_not_allowed", "The path does not have this method. See /docs."),
    413: ("too_large", "The body is too large. Send less at a time."),
}
# Only these names of a request are repeated: all others are the caller's.
FIELDS = {
    "absent", "body", "dry_run", "examples", "hash", "id", "ids", "input", "known", "match", "number", "on_duplicate",
    "on_forgotten", "on_missing", "output", "path", "query", "rationale", "subject",
}  # fmt: skip


def body_of(status: int, code: str, message: str) -> dict[str, Any]:
    """Return the body of an error in OpenAI's form."""
    kind = DENIED if status in (401, 403) else INVALID if status < 500 else SERVER
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def response_for(error: Exception) -> JSONResponse:
    """Return the answer to an error of any kind. What is not the client's mistake is logged."""
    if isinstance(error, ApiError):
        if error.status >= 500:
            logger.warning("%s", error.code)
        return JSONResponse(body_of(error.status, error.code, error.message), error.status, error.headers)
    meaning = next((MEANINGS[kind] for kind in type(error).__mro__ if kind in MEANINGS), UNEXPECTED)
    if meaning.status >= 500:
        log_failure(error)
    message = first_line(error).partition(". ")[0] + "." if meaning.message is None else meaning.message
    body = body_of(meaning.status, meaning.code, message)
    if isinstance(error, ScrubError) and error.report is not None:
        body["report"] = error.report.to_dict()
    headers = {"Retry-After": str(RETRY_SOON)} if meaning.status == 503 else None
    return JSONResponse(body, meaning.status, headers)


async def _of_fault(request: Request, error: Exception) -> JSONResponse:
    return response_for(error)


async def _of_http(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, message = STATUSES.get(status, ("invalid_request", "The request cannot be understood."))
    headers = dict(getattr(error, "headers", None) or {})
    return JSONResponse(body_of(status, code, message), status, headers)


async def _of_shape(request: Request, error: Exception) -> JSONResponse:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(f"{_place(fault['loc'])}: {_reason(fault)}" for fault in faults[:5])
    return JSONResponse(body_of(422, "invalid_shape", f"The request has the wrong shape: {said}."), 422)


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(step) if isinstance(step, int) or step in FIELDS else "?" for step in loc)


def _reason(fault: Mapping[str, Any]) -> str:
    kind = str(fault["type"])
    if kind == "json_invalid":
        return "this is not JSON"
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "model_attributes_type":
        return "this is not an object"
    # pydantic's names of faults are fixed words, such as string_type; its messages may repeat what was sent.
    return kind.replace("_", " ")


HANDLERS: dict[int | type[Exception], Any] = {
    ApiError: _of_fault,
    EraseError: _of_fault,
    RequestValidationError: _of_shape,
    HTTPException: _of_http,
}
