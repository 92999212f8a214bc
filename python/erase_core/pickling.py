"""Copies and pickles of objects that hold an open file, a model or a key.

Two copies must not share an open file: closing one would close the other. And neither an open file nor a key can be
sent to another process. So such an object is pickled as its class and its arguments. Unpickling creates a new object
and checks that it is equivalent.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erase_core.errors import EraseError, NotPicklableError, ParameterError, first_line

__all__ = ["Recipe", "Shared", "anywhere", "check_picklable", "make_again"]

# A function and its arguments, as `__reduce__` returns them.
Recipe = tuple[Any, tuple[Any, ...]]


def anywhere(model: object) -> object:
    """Return a model's name in a form that is valid in any working directory: existing paths become absolute."""
    if isinstance(model, (str, os.PathLike)):
        path = Path(model).expanduser()
        return os.path.abspath(path) if path.exists() else model
    return model


def make_again(kind: type[Any], arguments: Mapping[str, Any], name: str, expected: str) -> Any:
    """Recreate a pickled object, and check that it is equivalent to the original.

    Parameters
    ----------
    kind : type
    arguments : mapping of str to object
    name : str
        The attribute that identifies the object.
    expected : str
        The value of this attribute in the original.

    Raises
    ------
    ParameterError
        The new object differs, for example because a model file was replaced.
    """
    again = kind(**arguments)
    found = getattr(again, name)
    if found != expected:
        raise ParameterError(
            f"the pickled {kind.__name__} had the {name} {expected}, but loading it here gives {found}: its files "
            "have changed. Restore them, or make a new one."
        )
    return again


def check_picklable(what: str, thing: object) -> None:
    """Check that an object given by the caller can be pickled.

    Raises
    ------
    NotPicklableError
    """
    try:
        pickle.dumps(thing)
    except EraseError:
        raise
    except Exception as error:  # a class may raise anything
        raise NotPicklableError(
            f"the {what} of this store, {type(thing).__name__}, cannot be pickled ({first_line(error)}). Give the "
            f"class a `__reduce__` method, or open the store in the other process with {what}=."
        ) from error


class Shared:
    """Base class of objects that `copy` and `deepcopy` return unchanged, since a caller cannot modify them."""

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self
