"""Every error that erase_core raises on purpose: one base class, and subclasses that are also builtin ones.

A call that raises one of them has changed nothing. Two are different: before a `ScrubError` the removal was done, and
only what it left in files, or its receipt, is outstanding; after an `UncertainError` it shows when the store is opened
again.
"""

from __future__ import annotations

from typing import Any

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
    "LLMError",
    "MissingPackageError",
    "ModelFileError",
    "NotPicklableError",
    "OldCopyWarning",
    "ParameterError",
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
]


def printable(text: str) -> str:
    """Return a text in which the bytes of a file's name that are not UTF-8 are escaped, so that it can be printed."""
    return text.encode("utf-8", "backslashreplace").decode()


class EraseError(Exception):
    """Base class of the errors of erase_core."""

    def __str__(self) -> str:
        # Not that of a KeyError, which would put the message in quotes.
        return printable(Exception.__str__(self))


class ParameterError(EraseError, ValueError):
    """A parameter is out of its range; the message names it, its value and the bound."""


class DataError(EraseError, ValueError):
    """Rows that cannot be taken: a value that is not finite, a norm above ``max_norm``, a number that does not fit."""


class IdKindError(EraseError, TypeError):
    """Ids that are neither integers nor strings, a mixture of both, not of the model's kind, or in the wrong place."""


class DuplicateIdError(EraseError, ValueError):
    """An id occurs twice, or is in the model already."""


class UnknownIdError(EraseError, KeyError):
    """Ids that are not in the model; the message names them, and no row was removed."""


class EmptyModelError(EraseError, ValueError):
    """The model has no rows left, so there is nothing to predict with."""


class ModelFileError(EraseError, ValueError):
    """A file that is not a whole, sound model of this version."""


class SourceError(EraseError, ValueError):
    """Examples that cannot be read at all: no such file, not of the format that its name says, not a table."""


class ExampleError(DataError):
    """A row that is no example: the message names source, line, field and reason. Nothing was taken from the source."""


class EmbedderError(EraseError, ValueError):
    """An embedding model that cannot be loaded, or is not the one that the store was built with."""


class LLMError(EraseError, ValueError):
    """A language model that cannot be loaded or cannot do what was asked; an answer that makes no sense."""


class PromptTooLongError(EraseError, ValueError):
    """A prompt that does not fit; the message says how many tokens it has and how many are allowed."""


class ServerError(EraseError, ConnectionError):
    """A model server that is down, too slow, or refuses; the message names its address."""


class MissingPackageError(EraseError, ImportError):
    """An optional package is not installed; the message says which `pip install` brings it."""


class NotPicklableError(EraseError, TypeError):
    """An object that cannot be pickled: a key or password would be in the pickle, or a model cannot be pickled."""


class StoreError(EraseError, ValueError):
    """A folder that is not a store, or is damaged, or cannot be written."""


class StoreVersionError(StoreError):
    """A store that another version of erase_core wrote."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class UncertainError(StoreError):
    """The disk failed at the end of a write: whether it counts shows when the store is opened again."""


class ScrubError(StoreError):
    """A removal is committed, but files may still hold what was removed; opening the store again finishes it.

    Attributes
    ----------
    report : ForgetReport or None
        What `forget` would have returned.
    """

    # Not typed as such: reports.py is built on what imports this file.
    report: Any = None


class ReceiptError(StoreError):
    """A receipt that is none, or was changed; receipts that are not the store's, or not where they should be."""


class ForgottenError(EraseError, ValueError):
    """Examples that were forgotten are to come in again; nothing was ingested."""


class UnknownSubjectError(EraseError, KeyError):
    """A subject that no example has; nothing was forgotten."""


class DataWarning(UserWarning):
    """The steps in which a `QKMeans` counts are coarse against the spread of its rows: see its `resolution_`."""


class ScrubWarning(UserWarning):
    """Files of a store may still hold what was forgotten; the next `open` finishes the removal."""


class StopWarning(UserWarning):
    """Demonstrations have answers with the template's stop in them, at which the model's own answer is cut."""


class OldCopyWarning(UserWarning):
    """A store was a copy from before a removal, which has been done again."""
