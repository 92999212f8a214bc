"""Runs an application until it is told to stop: its socket, its log, and an end at which nothing is lost."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from erase_core.errors import ParameterError, os_reason
from erase_core.server.log import LOG, OneLine

__all__ = ["bound", "run", "url_of"]

FORMAT = "%(asctime)s %(levelname)s %(message)s"


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises
    ------
    ParameterError
        The address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else "not an address"
        raise ParameterError(f"--host {host} --port {port}: {reason}. Choose another.") from error


def url_of(listener: socket.socket) -> str:
    """Return the address of a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listener: socket.socket, *, grace: float) -> None:
    """Answer requests until SIGTERM or Ctrl-C. Then requests that run may end, for `grace` seconds."""
    _log_to_stderr()
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,  # it would have ids and subjects in it
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    # uvicorn raises the signal again when it has ended, but this end is what was asked for.
    before = {number: signal.signal(number, _ignored) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignored(number: int, frame: FrameType | None) -> None:
    pass


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(FORMAT))
    for name, level in ((LOG, logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
