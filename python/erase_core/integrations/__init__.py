"""Frameworks that show a store's demonstrations: a module for each, named after it and imported only by who uses it.

`langchain`, `dspy`, `haystack`, `litellm` and `lm_eval`. None of them keeps an example: each call asks the store. So
what was forgotten is in no later prompt. What the frameworks themselves keep is in docs/frameworks.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


def keys_of(fields: Mapping[str, str] | None, names: Sequence[str]) -> dict[str, str]:
    """Return the key of each field, by the name of the field. Without another it is that name.

    Raises
    ------
    ParameterError
        `fields` has another name, or two fields would have one key.
    """
    given = dict(fields or {})
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ParameterError(f"fields must have only the names {', '.join(names)}, got {unknown[0]!r}")
    keys = {name: given.get(name, name) for name in names}
    if len(set(keys.values())) < len(keys):
        raise ParameterError(f"fields must give each field a key of its own, got {keys}")
    return keys
