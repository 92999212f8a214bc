"""Frameworks that show a store's demonstrations: a module for each, named after it and imported only by who uses it.

`langchain`, `dspy`, `haystack`, `litellm` and `lm_eval`. None of them keeps an example: each call asks the store. So
what was forgotten is in no later prompt. What the frameworks themselves keep is in docs/frameworks.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from erase_core.erase import Erase
from erase_core.errors import MissingPackageError, ParameterError

__all__: list[str] = []


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import the packages of an extra within this context.

    Raises
    ------
    MissingPackageError
        One of them is not installed. The message says which `pip install` installs it.
    """
    try:
        yield
    except ImportError as error:
        raise MissingPackageError(
            f"packages for {name} are missing ({error}). Run `pip install 'erase-core[{name}]'`."
        ) from error


def checked(erase: object) -> Erase:
    """Return an open store.

    Raises
    ------
    ParameterError
        It is not one.
    """
    if not isinstance(erase, Erase):
        raise ParameterError(f"erase must be an open store, got {type(erase).__name__}. Give Erase.open(path).")
    return erase
