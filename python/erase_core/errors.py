"""Every error and warning that erase_core raises on purpose.

Each error is an `EraseError`, and most are also a builtin exception, shown in parentheses:

    EraseError
    |
    |   Nothing happened: the call changed nothing.
    |
    |-- ParameterError (ValueError)          an argument has the wrong type or is out of range
    |-- NotPicklableError (TypeError)        the object cannot be pickled
    |-- MissingPackageError (ImportError)    an optional package is not installed
    |-- PlatformError (NotImplementedError)  this operating system lacks what a store needs
    |
    |-- SourceError (ValueError)             a source of examples cannot be read
    |-- DataError (ValueError)               rows or vectors are invalid
    |   `-- ExampleError                     a row is not a valid example
    |-- IdKindError (TypeError)              ids have the wrong type
    |-- DuplicateIdError (ValueError)        an id is given twice, or is already present
    |-- UnknownIdError (KeyError)            an id is not present
    |-- UnknownSubjectError (KeyError)       no example is about the subject
    |-- ForgottenError (ValueError)          an example to ingest was forgotten earlier
    |
    |-- EmptyModelError (ValueError)         the model has no rows left
    |-- ModelFileError (ValueError)          a file is not a valid model file
    |-- EmbedderError (ValueError)           an embedding model cannot be used
    |-- LLMError (ValueError)                a language model cannot be used
    |-- PromptTooLongError (ValueError)      a prompt exceeds its limit
    |-- ServerError (ConnectionError)        a model server failed or refused
    |
    |-- PartError (ValueError)               a part of a distributed model cannot be read, or has changed
    |-- WorkerLostError (ConnectionError)    a worker died whose rows were given as arrays; give them again
    |
    |-- StoreError (ValueError)              a store is missing, damaged or not writable
    |   |-- StoreVersionError                another version of erase_core wrote the store
    |   |-- StoreLockedError                 another process or handle is writing to the store
    |   |-- ReceiptError                     receipts are missing, modified or foreign
    |   |-- KeyFileError                     the key file is missing, damaged or foreign, or the key is wrong
    |   |
    |   |   The removal is done, but its cleanup is not.
    |   |
    |   |-- ScrubError                       keys of removed data may still be there; reopen to finish
    |   |
    |   |   Unknown: the store shows at the next open whether the write counts.
    |   |
    |   `-- UncertainError                   the disk failed at the end of a write

    UserWarning
    |-- DataWarning                          the rows are too small for the precision of a `QKMeans`
    |-- OldCopyWarning                       an old copy of a store was brought up to date
    |-- ScrubWarning                         keys of removed data may still be there; reopen to finish
    `-- StopWarning                          demonstrations contain the stop text
"""

from __future__ import annotations

import sys
import warnings
from contextvars import Context, ContextVar, copy_context
from typing import Any, NamedTuple

__all__ = [
    "DataError",
    "DataWarning",
    "DuplicateIdError",
    "EmbedderError",
    "EmptyModelError",
    "EraseError",
    "ExampleError",
    "ForgottenError",
    "IdKindError",
    "KeyFileError",
    "LLMError",
    "MissingPackageError",
    "ModelFileError",
    "NotPicklableError",
    "OldCopyWarning",
    "ParameterError",
    "PartError",
    "PlatformError",
    "PromptTooLongError",
    "ReceiptError",
    "ScrubError",
    "ScrubWarning",
    "ServerError",
    "SourceError",
    "StopWarning",
    "StoreError",
    "StoreLockedError",
    "StoreVersionError",
    "UncertainError",
    "UnknownIdError",
    "UnknownSubjectError",
    "WorkerLostError",
]


def printable(text: str) -> str:
    """Return a text with lone surrogates escaped. File names that are not valid UTF-8 contain them."""
    return text.encode("utf-8", "backslashreplace").decode()


def first_line(error: object) -> str:
    """Return the first line of an error's message, which may be long; the name of its class if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def os_reason(error: OSError) -> str:
    """Return the system's words for what went wrong, without number and path; the message if it has no such words."""
    return error.strerror or str(error)


class EraseError(Exception):
    """Base class of all errors of erase_core."""

    def __str__(self) -> str:
        # KeyError would put the message in quotes.
        return printable(Exception.__str__(self))


class ParameterError(EraseError, ValueError):
    """An argument has the wrong type or is out of range. The message names the parameter, its value and the bound."""


class DataError(EraseError, ValueError):
    """Rows are invalid: a value is not finite, a norm exceeds ``max_norm``, or the numbers of rows and ids differ."""


class IdKindError(EraseError, TypeError):
    """Ids have the wrong type: neither integers nor strings, both mixed, or another type than the model's ids."""


class DuplicateIdError(EraseError, ValueError):
    """An id is given twice, or is already present."""


class UnknownIdError(EraseError, KeyError):
    """Ids are not present. The message names them. Nothing was removed."""


class EmptyModelError(EraseError, ValueError):
    """The model has no rows left, so it cannot predict."""


class ModelFileError(EraseError, ValueError):
    """A file is not a valid model file of this version, or is damaged."""


class SourceError(EraseError, ValueError):
    """A source of examples cannot be read: it does not exist, has another format, or is not a table."""


class ExampleError(DataError):
    """A row is not a valid example. The message names source, line, field and reason. Nothing was ingested."""


class EmbedderError(EraseError, ValueError):
    """An embedding model cannot be loaded, returns invalid vectors, or is not the model of the store."""


class LLMError(EraseError, ValueError):
    """A language model cannot be loaded, cannot do what was asked, or gave an unusable answer."""


class PromptTooLongError(EraseError, ValueError):
    """A prompt is too long. The message says how many tokens it has and how many are allowed."""


class ServerError(EraseError, ConnectionError):
    """A model server is unreachable, too slow, or refused the request. The message names its address."""


class PartError(EraseError, ValueError):
    """A part of a `DistributedQKMeans` cannot be read, is not a table of rows, or has other rows than it had."""


class WorkerLostError(EraseError, ConnectionError):
    """A worker died whose rows were given as arrays, or no worker is left. `restore` takes the rows again.

    A removal that was under way is completed then. An addition that was under way is undone.
    """


class MissingPackageError(EraseError, ImportError):
    """An optional package is not installed, or not in the version that is needed. The message says what to install."""

    @classmethod
    def of(cls, packages: str, extra: str) -> MissingPackageError:
        """Return the error for packages that are not installed, and the extra that has them."""
        are = "are" if "," in packages or " and " in packages else "is"
        return cls(f"{packages} {are} not installed. Run `pip install 'erase-core[{extra}]'`.")


class PlatformError(EraseError, NotImplementedError):
    """Stores and scans do not work on this operating system. The message names it, and what it lacks."""


class NotPicklableError(EraseError, TypeError):
    """An object cannot be pickled: the pickle would contain a key or a password, or a part cannot be pickled."""


class StoreError(EraseError, ValueError):
    """A folder is not a store, or the store is damaged or cannot be written."""


class StoreVersionError(StoreError):
    """Another version of erase_core wrote the store."""


class StoreLockedError(StoreError):
    """Another process, or another handle of this process, is writing to the store."""


class UncertainError(StoreError):
    """The disk failed at the end of a write. Open the store again to see whether the write counts."""


class ScrubError(StoreError):
    """The removal is committed, but keys of the data may still be there, or its receipt is not published.

    Reopen the store to finish. Or the language model could not overwrite what it keeps of prompts. Then end the
    process.

    Attributes
    ----------
    report : ForgetReport or None
        What `forget` would have returned.
    """

    # The type is Any because reports.py imports this module.
    report: Any = None


class ReceiptError(StoreError):
    """A receipt is malformed or modified, or the receipts folder is missing or belongs to another store."""


class KeyFileError(StoreError):
    """The key file is missing, damaged or of another store, or the key that the caller gives is missing or wrong."""


class ForgottenError(EraseError, ValueError):
    """Some of the examples to ingest were forgotten earlier. Nothing was ingested."""


class UnknownSubjectError(EraseError, KeyError):
    """No example is about the subject. Nothing was forgotten."""


class DataWarning(UserWarning):
    """The precision of a `QKMeans` is too coarse for the spread of its rows; see its `resolution_`."""


class ScrubWarning(UserWarning):
    """Keys of removed data may still be there, or a receipt is not published. Reopen the store to finish."""


class StopWarning(UserWarning):
    """Demonstrations have answers that contain the template's stop text, where the model's own answer is cut."""


class OldCopyWarning(UserWarning):
    """A store was a copy from before a removal. The removal was done again."""


class _Place(NamedTuple):
    """A line of the user's code, as `warnings.warn_explicit` takes it."""

    filename: str
    lineno: int
    module: str
    registry: dict[Any, Any]


# The line at which the call was made that this thread is working on, if another thread made it.
_place: ContextVar[_Place | None] = ContextVar("place", default=None)


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn with the line of the user's code from which this package was called."""
    warnings.warn_explicit(message, category, *(_place.get() or _place_of_user()))


def context_of_user() -> Context:
    """Return a copy of the context in which, in any thread, `warn_user` names the line that has called this package."""
    context = copy_context()
    context.run(_place.set, _place_of_user())
    return context


def _place_of_user() -> _Place:
    """Return the line of the first frame that is neither in this package nor in scikit-learn."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("erase_core.", "sklearn.")):
        frame = frame.f_back
    names = frame.f_globals
    registry = names.setdefault("__warningregistry__", {})
    return _Place(frame.f_code.co_filename, frame.f_lineno, names.get("__name__", "__main__"), registry)
