"""A connection to an engine for the length of one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from erase_core.distributed.engines.choosing import engine_of, missing_engine
from erase_core.distributed.engines.protocol import Engine
from erase_core.errors import EraseError, WorkerLostError, first_line

__all__ = ["connected"]

# Seconds until a scheduler that does not answer is given up.
PATIENCE = 30


@contextmanager
def connected(given: Any) -> Iterator[Engine]:
    """Connect to an engine, and disconnect at the end what was connected here.

    Parameters
    ----------
    given : distributed.Client, Engine or str
        As for `engine_of`, or ``"dask://host:port"``. An `Engine` stays as it is.

    Raises
    ------
    ParameterError, MissingPackageError
    WorkerLostError
        The engine cannot be reached.
    """
    if isinstance(given, Engine):
        yield given
        return
    with ExitStack() as stack:
        try:
            if isinstance(given, str) and given.startswith("dask://"):
                engine = engine_of(stack.enter_context(_client(given)))
            else:
                engine = engine_of(given)
        except EraseError:
            raise
        except Exception as error:  # Ray raises plain ones
            raise WorkerLostError(
                f"cannot connect to {given} ({first_line(error)}). Check the address, and whether the cluster runs."
            ) from None
        stack.callback(engine.close)
        yield engine


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise missing_engine("distributed", "dask") from None
    return Client(address.replace("dask://", "tcp://", 1), timeout=PATIENCE, set_as_default=False)
