"""Copies and pickles of what holds a file, a model or a key open: made again from what it was made of.

A copy that shared an open file would close it for the other one; and a key or an open file cannot be sent to another
process. So an object here is pickled as its class and the arguments that make it again, and checked to be the same one.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erase_core.errors import EraseError, NotPicklableError, ParameterError

__all__ = ["Recipe", "Shared", "anywhere", "check_picklable", "make_again"]

# A function and its arguments, as `__reduce__` returns them.
Recipe = tuple[Any, tuple[Any, ...]]


def anywhere(model: object) -> object:
    """Return a model's name so that it means the same in another folder: that of a file or folder is absolute."""
    if isinstance(model, (str, os.PathLike)):
        path = Path(model).expanduser()
        return os.path.abspath(path) if path.exists() else model
    return model


def make_again(kind: type[Any], arguments: Mapping[str, Any], name: str, expected: str) -> Any:
    """Return an object of a class that was pickled, if it is the same one still.

    Parameters
    ----------
    kind : type
    arguments : mapping of str to object
    name : str
        The attribute by which one is told from another.
    expected : str
        Its value.

    Raises
    ------
    ParameterError
        It has changed since, as where a file was replaced.
    """
    again = kind(**arguments)
    found = getattr(again, name)
    if found != expected:
        raise ParameterError(
            f"the {kind.__name__} that was pickled has the {name} {expected}, but what is loaded here has {found}: "
            "its files are others; give those of then, or make a new one"
        )
    return again


def check_picklable(what: str, thing: object) -> None:
    """Check that an object of the caller's can be pickled.

    Raises
    ------
    NotPicklableError
    """
    try:
        pickle.dumps(thing)
    except EraseError:
        raise
    except Exception as error:  # as many kinds as there are classes
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise NotPicklableError(
            f"the {what} of this store, {type(thing).__name__}, cannot be pickled ({reason}); give the class a "
            f"`__reduce__` method, or open the store in the other process with {what}="
        ) from error


class Shared:
    """An object whose copies are itself: nothing that a caller can change is in it."""

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self
