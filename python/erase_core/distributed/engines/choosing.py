"""Which engine an argument means. Its package is imported here, so that none is before it is used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from erase_core.distributed.engines.local import LocalEngine
from erase_core.distributed.engines.protocol import Engine
from erase_core.errors import EraseError, MissingPackageError, ParameterError, WorkerLostError, first_line

__all__ = ["connected", "engine_of"]

# Seconds until a scheduler that does not answer is given up.
PATIENCE = 30


def engine_of(given: Any) -> Engine:
    """Return the engine for an argument. Its `close` ends a connection that is made here.

    Parameters
    ----------
    given : distributed.Client, Engine or str
        ``"dask://host:port"``, ``"ray"``, ``"ray://host:port"`` or ``"local"``.

    Raises
    ------
    ParameterError, MissingPackageError
    WorkerLostError
        The engine cannot be reached.
    """
    if isinstance(given, Engine):
        return given
    if given == "local":
        return LocalEngine()
    # A client exists only if its package has been imported.
    if (distributed := sys.modules.get("distributed")) is not None and isinstance(given, distributed.Client):
        from erase_core.distributed.engines.dask import DaskEngine

        return DaskEngine(given)
    try:
        if isinstance(given, str) and given.startswith("dask://"):
            return _dask(given)
        if given == "ray" or (isinstance(given, str) and given.startswith("ray://")):
            return _ray(None if given == "ray" else given)
    except EraseError:
        raise
    except Exception as error:  # Ray raises plain ones
        raise WorkerLostError(
            f"cannot connect to {given} ({first_line(error)}). Check the address, and whether the cluster runs."
        ) from None
    raise ParameterError(
        f"engine must be a dask Client, 'dask://host:port', 'ray', 'ray://host:port' or 'local', got {given!r}"
    )


@contextmanager
def connected(given: Any) -> Iterator[Engine]:
    """Connect to an engine for the length of a call. An `Engine` that is given stays as it is."""
    if isinstance(given, Engine):
        yield given
        return
    with closing(engine_of(given)) as engine:
        yield engine


def _dask(address: str) -> Engine:
    try:
        from distributed import Client

        from erase_core.distributed.engines.dask import DaskEngine
    except ModuleNotFoundError:
        raise MissingPackageError.of("distributed", "dask") from None
    client = Client(address.replace("dask://", "tcp://", 1), timeout=PATIENCE, set_as_default=False)
    return DaskEngine(client, is_own=True)


def _ray(address: str | None) -> Engine:
    try:
        from erase_core.distributed.engines.ray import RayEngine
    except ModuleNotFoundError:
        raise MissingPackageError.of("ray", "ray") from None
    return RayEngine(address)
