"""Every error that erase_core raises on purpose: one base class, and subclasses that are also builtin ones.

A call that raises one of them has changed nothing.
"""

__all__ = [
    "DataError",
    "DuplicateIdError",
    "EmptyModelError",
    "EraseError",
    "IdKindError",
    "ModelFileError",
    "ParameterError",
    "UnknownIdError",
]


class EraseError(Exception):
    """Base class of the errors of erase_core."""


class ParameterError(EraseError, ValueError):
    """A parameter is out of its range; the message names it, its value and the bound."""


class DataError(EraseError, ValueError):
    """Rows that cannot be taken: a value that is not finite, a norm above ``max_norm``, a number that does not fit."""


class IdKindError(EraseError, TypeError):
    """Ids that are neither integers nor strings, a mixture of both, or not of the kind that the model has."""


class DuplicateIdError(EraseError, ValueError):
    """An id occurs twice, or is in the model already."""


class UnknownIdError(EraseError, KeyError):
    """Ids that are not in the model; the message names them, and no row was removed."""

    # A KeyError shows the repr of its argument, which would put the message in quotes.
    __str__ = Exception.__str__


class EmptyModelError(EraseError, ValueError):
    """The model has no rows left, so there is nothing to predict with."""


class ModelFileError(EraseError, ValueError):
    """A file that is not a whole, sound model of this version."""
