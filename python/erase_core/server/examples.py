"""Adding and forgetting examples: `PUT`, `POST` and `DELETE` of /v1/examples, /v1/subjects and /v1/forget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from starlette.convertors import Convertor, register_url_convertor

from erase_core.erase import Erase
from erase_core.erasure.admission import OnDuplicate, OnForgotten
from erase_core.erasure.request import Match, OnMissing
from erase_core.errors import ScrubError, UnknownIdError, UnknownSubjectError
from erase_core.reports import ForgetReport
from erase_core.server.auth import TOKEN, route_for
from erase_core.server.errors import ApiError
from erase_core.server.service import Serves, Service
from erase_core.server.store_calls import id_of, would_add

__all__ = ["forget_router", "ingest_router"]

T = TypeVar("T")


class Anything(Convertor[str]):
    """Matches any text in a path, also slashes and line breaks."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        """Return the text."""
        return value

    def to_string(self, value: str) -> str:
        """Return the text."""
        return value


register_url_convertor("any", Anything())

ingest_router = APIRouter(route_class=route_for("ingest"), tags=["ingest"], dependencies=[TOKEN])
forget_router = APIRouter(route_class=route_for("forget"), tags=["forget"], dependencies=[TOKEN])

Id = StrictInt | StrictStr
DryRun = Annotated[bool, Query(description="Only report what would change.")]
Forgotten = Annotated[
    OnForgotten,
    Query(description="What to do with an example that was forgotten. allow needs the scope forget, too."),
]
Missing = Annotated[OnMissing, Query(description="What to do if it is not in the store.")]
Spelling = Annotated[Match, Query(description="Whether subjects are compared as written, or without case and spaces.")]


def _in_path(name: str) -> dict[str, Any]:
    """Return the description of what `_named` reads from a path."""
    schema = {"type": "string", "minLength": 1}
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": schema}]}


class Texts(BaseModel):
    """An example. Its id may be given by the path."""

    model_config = ConfigDict(extra="forbid")

    id: Id | None = None
    input: StrictStr
    output: StrictStr
    rationale: StrictStr | None = None
    subject: StrictStr | None = Field(None, description="The person or customer that the example is about.")


class Batch(BaseModel):
    """Examples to add: all of them, or none if one is wrong."""

    model_config = ConfigDict(extra="forbid")

    examples: list[Texts]
    on_forgotten: OnForgotten = "refuse"
    on_duplicate: OnDuplicate = "refuse"
    dry_run: StrictBool = False


class Removal(BaseModel):
    """What to forget: ids, or subjects."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Id] | None = None
    subject: StrictStr | list[StrictStr] | None = None
    on_missing: OnMissing = "refuse"
    match: Match = "exact"
    dry_run: StrictBool = False


@ingest_router.put(
    "/v1/examples/{id:any}",
    summary="Add an example",
    responses={201: {"description": "Added"}},
    openapi_extra=_in_path("id"),
)
async def put(
    request: Request,
    response: Response,
    service: Serves,
    example: Texts,
    on_forgotten: Forgotten = "refuse",
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Add one example under an id, escaped as in any URL.

    The same example again changes nothing (status 200). Another one under the same id is refused (409): forget the
    first. An id that looks like an integer is one, unless the ids of the store are texts, or the body has the id as a
    text.
    """
    text = _named(request, "/v1/examples/")
    if example.id is None:
        id_ = await service.store(lambda erase: id_of(erase, text))
    elif str(example.id) == text:
        id_ = example.id
    else:
        raise ApiError(422, "invalid_shape", "The id of the body is not that of the path. Leave one of them out.")
    row = {**example.model_dump(exclude_none=True), "id": id_}
    report = await _ingest(request, service, [row], on_forgotten, "skip", dry_run=dry_run)
    response.status_code = 201 if report["n_added"] and not dry_run else 200
    return report


@ingest_router.post("/v1/examples", summary="Add several examples")
async def post(request: Request, service: Serves, batch: Batch) -> dict[str, Any]:
    """Add examples: all of them, or none if one is wrong. Those without an id are numbered."""
    rows = [example.model_dump(exclude_none=True) for example in batch.examples]
    return await _ingest(request, service, rows, batch.on_forgotten, batch.on_duplicate, dry_run=batch.dry_run)


@forget_router.delete("/v1/examples/{id:any}", summary="Forget an example", openapi_extra=_in_path("id"))
async def delete(
    request: Request, service: Serves, on_missing: Missing = "refuse", dry_run: DryRun = False
) -> dict[str, Any]:
    """Forget one example. See `POST /v1/forget`, whose ids stand in no URL."""
    text = _named(request, "/v1/examples/")

    def ids(erase: Erase) -> list[int | str]:
        return [id_of(erase, text)]

    return await _forget(service, lambda e: e.forget(ids(e), on_missing=on_missing, dry_run=dry_run))


@forget_router.delete(
    "/v1/subjects/{subject:any}",
    summary="Forget all examples about a subject",
    openapi_extra=_in_path("subject"),
)
async def delete_subject(
    request: Request,
    service: Serves,
    on_missing: Missing = "refuse",
    match: Spelling = "exact",
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Forget all examples about a subject. See `POST /v1/forget`, whose subjects stand in no URL."""
    subject = _named(request, "/v1/subjects/")
    return await _forget(
        service, lambda e: e.forget(subject=subject, on_missing=on_missing, match=match, dry_run=dry_run)
    )


@forget_router.post("/v1/forget", summary="Forget examples")
async def forget(service: Serves, removal: Removal) -> dict[str, Any]:
    """Forget examples exactly, by their ids or by subjects, and write a receipt.

    The answer comes when the keys are destroyed and no chat that shows one of the examples is with the model any more.
    Chats that take longer than the server's bound (`--drain`) are ended with an error, and counted in
    `n_chats_ended`. `POST`, not `DELETE`, so that ids and subjects are in no URL and in nobody's log.
    """
    if (removal.ids is None) == (removal.subject is None):
        raise ApiError(422, "invalid_shape", "Give either ids or subject.")
    given = removal.model_dump()
    return await _forget(service, lambda e: e.forget(given.pop("ids"), **given))


def _named(request: Request, before: str) -> str:
    """Return what a path names after its fixed part.

    Raises
    ------
    ApiError
        It is not in UTF-8, in which it could match another name.
    """
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    try:
        return unquote_to_bytes(path.partition(b"?")[0]).decode().removeprefix(before)
    except UnicodeDecodeError:
        raise ApiError(400, "invalid_value", "The path is not in UTF-8. Escape it as UTF-8.") from None


async def _ingest(
    request: Request,
    service: Service,
    rows: list[dict[str, Any]],
    on_forgotten: OnForgotten,
    on_duplicate: OnDuplicate,
    *,
    dry_run: bool,
) -> dict[str, Any]:
    if on_forgotten == "allow":  # it takes back a removal
        service.tokens.check(request, "forget")
    if not rows:
        raise ApiError(422, "invalid_example", "There are no examples.")
    if dry_run:
        n_added, n_forgotten, n_duplicates = await service.store(
            lambda erase: would_add(erase, rows, on_forgotten, on_duplicate)
        )
        return {"n_added": n_added, "n_forgotten": n_forgotten, "n_duplicates": n_duplicates, "dry_run": True}
    report = await service.store(lambda erase: erase.ingest(rows, on_forgotten=on_forgotten, on_duplicate=on_duplicate))
    service.metrics.added.inc(report.n_added)
    return {**report.to_dict(), "dry_run": False}


async def _forget(service: Service, call: Callable[[Erase], ForgetReport]) -> dict[str, Any]:
    """Forget, and wait until no chat shows what is forgotten, by this request or by one that is still waiting."""
    try:
        report = await service.store(call)
    except ScrubError as error:
        if error.report is not None:
            await _drain(service, error.report)
        raise
    except (UnknownIdError, UnknownSubjectError):
        await service.in_flight.drained()
        raise
    n_ended = 0 if report.dry_run else await _drain(service, report)
    if report.n_missing and not report.dry_run:
        await service.in_flight.drained()
    return {**report.to_dict(), "n_chats_ended": n_ended}


async def _drain(service: Service, report: ForgetReport) -> int:
    service.metrics.forgotten.inc(len(report.ids))
    n_ended = await service.in_flight.drain(report.ids, service.drain)
    service.metrics.withdrawn.inc(n_ended)
    return n_ended
