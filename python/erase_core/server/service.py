"""What all routes of a server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fastapi import Depends, Request

from erase_core.server.auth import Tokens
from erase_core.server.in_flight import InFlight
from erase_core.server.metrics import Metrics
from erase_core.server.store_calls import Caller
from erase_core.server.upstream import Upstream

__all__ = ["Serves", "Service"]


@dataclass(frozen=True)
class Service:
    """What all routes share.

    Parameters
    ----------
    store : Caller
    upstream : Upstream or None
        None: the model in this process answers.
    tokens : Tokens
    drain : float
        Seconds for which a removal waits for chats that show its examples, before it ends them.
    shows_ids : bool
        Whether chats and the status name the demonstrations by their ids.
    default_model : str or None
        The model of requests that name none.
    keeps : {"first", "last"}
        Which demonstrations stay in a chat that has not room for all.
    """

    store: Caller
    upstream: Upstream | None
    tokens: Tokens
    drain: float
    shows_ids: bool
    default_model: str | None
    keeps: Literal["first", "last"]
    metrics: Metrics = field(default_factory=Metrics)
    in_flight: InFlight = field(default_factory=InFlight)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Serves = Annotated[Service, Depends(_service)]
