"""Receipts, verification and status."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr

from erase_core.receipts.receipt import HASH
from erase_core.server.auth import TOKEN, route_for
from erase_core.server.errors import ApiError
from erase_core.server.service import Serves, Service
from erase_core.verify.forms import SHORTEST

__all__ = ["router", "status_router"]

router = APIRouter(route_class=route_for("forget"), tags=["proof"], dependencies=[TOKEN])
status_router = APIRouter(route_class=route_for(None), tags=["proof"], dependencies=[TOKEN])


class Ref(BaseModel):
    """Number and hash of a receipt."""

    model_config = ConfigDict(extra="forbid")

    number: StrictInt
    hash: StrictStr


class Claims(BaseModel):
    """What must be absent, and which receipts must be present."""

    model_config = ConfigDict(extra="forbid")

    absent: list[StrictStr] = []
    known: list[Ref] = []


@status_router.get("/v1/status", summary="The contents of the store")
async def status(service: Serves) -> dict[str, Any]:
    """Return counts, settings and digest of the store, and its prompts by their ids. Any token will do.

    If the server hides ids, the prompts are left out.
    """
    found = (await service.store(lambda erase: erase.status())).to_dict()
    if not service.shows_ids:
        del found["prompts"]
    return found


@router.get("/v1/receipts", summary="List the receipts")
async def receipts(service: Serves) -> dict[str, Any]:
    """Return all receipts of removals, oldest first. They contain no ids and no texts, but pseudonymous hashes."""
    found = await service.store(lambda erase: erase.receipts())
    return {"object": "list", "data": [receipt.to_dict() for receipt in found]}


@router.get("/v1/receipts/{number}", summary="One receipt")
async def receipt(service: Serves, number: int) -> dict[str, Any]:
    """Return the receipt with a number."""
    found = await service.store(lambda erase: erase.receipts())
    one = next((each for each in found if each.number == number), None)
    if one is None:
        raise ApiError(404, "unknown_receipt", "There is no receipt with this number.")
    return one.to_dict()


@router.get("/v1/verify", summary="Verify the store")
async def verify(service: Serves) -> dict[str, Any]:
    """Verify the store: its model, rows, receipts and files. Chats and writes wait meanwhile."""
    return await _verified(service, Claims())


@router.post("/v1/verify", summary="Verify the store, and that texts are absent")
async def verify_absent(service: Serves, claims: Claims) -> dict[str, Any]:
    """Verify the store, that no file of it contains the texts of `absent`, and that receipts of `known` are there.

    Chats and writes wait meanwhile.
    """
    if any(len(text.encode("utf-8", "replace")) < SHORTEST for text in claims.absent):
        raise ApiError(422, "invalid_value", f"Each text of absent must have at least {SHORTEST} bytes.")
    if not all(each.number > 0 and re.fullmatch(HASH, each.hash) for each in claims.known):
        raise ApiError(422, "invalid_value", "Each of known must be number and hash of a receipt.")
    return await _verified(service, claims)


async def _verified(service: Service, claims: Claims) -> dict[str, Any]:
    known = [(each.number, each.hash) for each in claims.known]
    return (await service.store(lambda erase: erase.verify(claims.absent, known=known))).to_dict()
