"""Which engine an argument means. Its package is imported here, so that none is before it is used."""

from __future__ import annotations

import sys
from typing import Any

from erase_core.distributed.engines.local import LocalEngine
from erase_core.distributed.engines.protocol import Engine
from erase_core.errors import MissingPackageError, ParameterError

__all__ = ["engine_of", "missing_engine"]


def engine_of(given: Any) -> Engine:
    """Return the engine for an argument.

    Parameters
    ----------
    given : distributed.Client, Engine or str
        ``"ray"``, ``"ray://host:port"`` or ``"local"``.

    Raises
    ------
    ParameterError, MissingPackageError
    """
    if isinstance(given, Engine):
        return given
    if given == "local":
        return LocalEngine()
    if given == "ray" or (isinstance(given, str) and given.startswith("ray://")):
        try:
            from erase_core.distributed.engines.ray import RayEngine
        except ModuleNotFoundError:
            raise missing_engine("ray", "ray") from None
        return RayEngine(None if given == "ray" else given)
    # A client exists only if its package has been imported.
    if (distributed := sys.modules.get("distributed")) is not None and isinstance(given, distributed.Client):
        from erase_core.distributed.engines.dask import DaskEngine

        return DaskEngine(given)
    raise ParameterError(f"engine must be a dask Client, 'ray', 'ray://host:port' or 'local', got {given!r}")


def missing_engine(package: str, extra: str) -> MissingPackageError:
    """Return the error for an engine whose package is not installed."""
    return MissingPackageError(f"{package} is not installed. Run `pip install 'erase-core[{extra}]'`.")
