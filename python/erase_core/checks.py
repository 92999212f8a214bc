"""Checks of arguments: each function returns the argument in the type that the core takes, or raises an error.

The core checks again. The checks here come first because their messages can show what the caller wrote.
"""

from __future__ import annotations

import math
import os
import platform
import secrets
from collections.abc import Iterable, Mapping, Reversible, Sequence, Set
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Rational, Real
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import IdKindError, ParameterError, PlatformError
from erase_core.fs import system

# These bounds repeat those of rust/core/src/params.rs.
MAX_CLUSTERS = MAX_DIM = 65_536
MAX_ITER = 1024
MAX_PANEL = 2**31 - 1
MAX_NEAREST = 64
# The default panel: so many rows, or so many for each cluster.
PANEL, PANEL_OF_CLUSTER = 1024, 64
MAX_SECONDS = 86400
MAX_EPSILON = 3
MAX_DENOMINATOR = 1_000_000
MIN_NORM = 2.0**-900
# Integer ids are signed 64-bit integers.
MIN_ID, MAX_ID = -(2**63), 2**63 - 1

_SetIterator: type = type(iter(set()))


def supported(what: str) -> None:
    """Check that this operating system has what stores and scans need, before anything is read or written.

    Parameters
    ----------
    what : str
        What the caller is about to do, for the message.

    Raises
    ------
    PlatformError
    """
    if lacking := system.missing():
        raise PlatformError(
            f"{what} does not work on {platform.system() or 'this system'}, which lacks {', '.join(lacking)}. Use "
            "Linux or macOS; on Windows, use WSL. The clustering (QKMeans) and receipts work here."
        )


def integer(name: str, value: object, least: int, most: int) -> int:
    """Return the argument as an integer from `least` to `most`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
        raise ParameterError(f"{name} must be an integer from {least} to {most}, got {value!r}")
    return int(value)


def ratio(name: str, value: object, above: int | None, most: int) -> tuple[int, int]:
    """Return a number as numerator and denominator. A float becomes the simplest fraction near it: 0.2 is 1/5."""
    wanted = (
        f"above 0 and at most {most} (and no less than {1 / MAX_DENOMINATOR})" if above == 0 else f"from 0 to {most}"
    )
    if _is_finite(value):
        exact = Fraction(value) if isinstance(value, Rational) else Fraction(float(value))
        near = exact.limit_denominator(MAX_DENOMINATOR)
        if 0 <= exact <= most and (above is None or near > above):
            return near.numerator, near.denominator
    raise ParameterError(f"{name} must be a number {wanted}, got {value!r}")


def epsilon(value: object) -> tuple[int, int]:
    """Return the pitch of the centres' lattice as a ratio."""
    return ratio("epsilon", value, 0, MAX_EPSILON)


def gamma(value: object) -> tuple[int, int]:
    """Return the strength of the balance correction as a ratio."""
    return ratio("gamma", value, None, 1)


def _is_finite(value: object) -> TypeGuard[Real]:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return bool(np.isfinite(float(value)))
    except OverflowError:
        return False


def panel(value: object, n_clusters: int) -> int | None:
    """Return how many rows are on the panel; None for all."""
    if value is None:
        return None
    if isinstance(value, str) and value == "auto":
        return max(PANEL, PANEL_OF_CLUSTER * n_clusters)
    if not isinstance(value, Integral) or isinstance(value, bool) or not n_clusters <= int(value) <= MAX_PANEL:
        raise ParameterError(
            f"panel must be 'auto', None or an integer from n_clusters={n_clusters} to {MAX_PANEL}, got {value!r}"
        )
    return int(value)


def max_norm(value: object) -> float | None:
    """Return the largest allowed norm, or None."""
    if value is None:
        return None
    if not _is_finite(value) or float(value) < MIN_NORM:
        raise ParameterError(f"max_norm must be None or a positive finite number of at least 2**-900, got {value!r}")
    return float(value)


def n_threads(value: object) -> int | None:
    """Return the number of threads, or None."""
    return None if value is None else integer("n_threads", value, 1, 1024)


def cache_bytes(value: object) -> int | None:
    """Return the size of the cache in bytes, or None."""
    return None if value is None else integer("cache_bytes", value, 0, 2**48)


def seed(random_state: object) -> int:
    """Return the seed for a `random_state`. None draws a random seed."""
    if random_state is None:
        return secrets.randbits(64)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**63 - 1, dtype=np.int64))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63 - 1))
    if isinstance(random_state, Integral) and not isinstance(random_state, bool) and 0 <= int(random_state) < 2**64:
        return int(random_state)
    raise ParameterError(
        f"random_state must be an integer from 0 to 2**64 - 1, a numpy generator or None, got {random_state!r}"
    )


def projection(projection: Any, n_features: int) -> int | NDArray[np.float64] | None:
    """Return a projection as a number of dimensions, a matrix, or None."""
    if projection is None:
        return None
    if isinstance(projection, (Integral, Real, str)):
        return integer("projection", projection, 1, MAX_DIM)
    try:
        given = np.asarray(projection)
        matrix = np.ascontiguousarray(given, dtype=None if np.iscomplexobj(given) else np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"projection must be None, an integer or a matrix of numbers: {error}") from None
    if np.iscomplexobj(matrix):
        raise ParameterError("projection must be None, an integer or a matrix of real numbers, got complex numbers")
    if matrix.ndim != 2 or matrix.shape[1] != n_features or len(matrix) == 0:
        raise ParameterError(f"projection must have the shape (m, n_features={n_features}), got {matrix.shape}")
    return matrix


def center(center: Any, n_features: int) -> list[float] | None:
    """Return the vector to subtract from every row, one number for each feature, or None."""
    if center is None:
        return None
    try:
        vector = np.asarray(center)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"center must be None or a vector of numbers: {error}") from None
    if vector.shape != (n_features,):
        raise ParameterError(f"center must have the shape (n_features={n_features},), got {vector.shape}")
    if vector.dtype.kind not in "iuf":
        raise ParameterError(f"center must be None or a vector of real numbers, got an array of {vector.dtype}")
    if np.ma.is_masked(center):  # the values under the mask would be subtracted
        raise ParameterError("center must be finite numbers, got an array with masked values. Fill them in.")
    # A value too large for 64 bits becomes infinite, and is refused below.
    with np.errstate(over="ignore"):
        values: list[float] = vector.astype(np.float64).tolist()
    for column, value in enumerate(values):
        if not math.isfinite(value):
            raise ParameterError(f"center must be finite, got {value} at column {column}")
    return values


def is_unordered(given: object) -> bool:
    """Whether a collection has no defined order: a set, or an iterator over a set.

    Views of a dict, and the ordered sets of other libraries, are instances of `Set` too. They can be reversed, unlike
    a plain set, and so count as ordered.
    """
    return isinstance(given, _SetIterator) or (isinstance(given, Set) and not isinstance(given, Reversible))


def id_list(ids: object, *, ordered: bool = False) -> list[int] | list[str] | None:
    """Return ids as a list; the core checks its items. If `ordered`, each id belongs to a row, so a set is refused."""
    if ids is None:
        return None
    if ordered and is_unordered(ids):
        raise IdKindError(
            f"ids must be in the order of the rows, got a {type(ids).__name__}, which has no order. Give a list."
        )
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise IdKindError(f"ids must be an iterable of integers or of strings, got {ids!r}")
    if hasattr(ids, "__array__"):
        if np.ma.is_masked(ids):  # the values under the mask would become ids
            raise IdKindError("ids must be integers or strings, got an array with masked ids. Leave their rows out.")
        array = np.asarray(ids)
        if array.ndim != 1:
            raise IdKindError(f"ids must be one-dimensional, got an array of shape {array.shape}")
        if array.dtype.kind in "mM":  # dates and durations would become integers
            raise IdKindError(f"ids must be integers or strings, got an array of {array.dtype}")
        return cast("list[int] | list[str]", array.tolist())
    return cast("list[int] | list[str]", list(ids))


def distinct_ids(ids: int | str | Iterable[int | str]) -> list[int | str]:
    """Return one id, or an iterable of ids, as a list without repetitions."""
    if isinstance(ids, Mapping):
        raise IdKindError("ids must be an id or an iterable of ids, got a mapping. Give the value of its 'id'.")
    given = [ids] if ids is None or isinstance(ids, (int, str, np.integer, Decimal)) else id_list(ids) or []
    # Databases return ids as decimals. `ingest` takes them as integers, too.
    given = [int(id_) if isinstance(id_, Decimal) and _is_whole(id_) else id_ for id_ in given]
    for id_ in given:
        if not isinstance(id_, (int, str, np.integer)) or isinstance(id_, bool):
            raise IdKindError(f"an id must be an integer or text, got {id_!r}")
    distinct = list(dict.fromkeys(int(id_) if isinstance(id_, np.integer) else id_ for id_ in given))
    # The order of a set differs between processes, but reports must not.
    return sorted(distinct, key=_by_kind) if is_unordered(ids) else distinct


def _is_whole(number: Decimal) -> bool:
    return number.is_finite() and number.copy_abs() < 2**64 and number == int(number)


def _by_kind(id_: int | str) -> tuple[bool, int, str]:
    return (True, 0, id_) if isinstance(id_, str) else (False, id_, "")


def distinct_texts(name: str, given: object) -> list[str]:
    """Return one text, or an iterable of texts, as a list without repetitions."""
    several = [given] if isinstance(given, str) else given
    is_scalar = getattr(several, "shape", None) == ()  # a NumPy array without axes, which cannot be iterated
    if is_scalar or isinstance(several, (bytes, Mapping)) or not isinstance(several, Iterable):
        raise ParameterError(f"{name} must be text or a list of texts, got {given!r}")
    texts = list(several)
    for each in texts:
        if not isinstance(each, str):
            raise ParameterError(f"{name} must be text or a list of texts, got {each!r}")
    texts = list(dict.fromkeys(str.__str__(each) for each in texts))
    return sorted(texts) if isinstance(several, Set) else texts


def path(name: str, given: object) -> Path:
    """Return a path. Bytes that are not valid UTF-8 become surrogates, as in the results of `os.listdir`."""
    if not isinstance(given, (str, os.PathLike)):
        raise ParameterError(f"{name} must be a path, got {given!r}")
    try:
        named = os.fsencode(given)
    except UnicodeEncodeError as error:
        raise ParameterError(
            f"{name} must be a path, got {given!r}: character {error.start + 1} is not allowed in file names"
        ) from None
    if b"\0" in named:
        raise ParameterError(f"{name} must be a path, got {given!r}: a NUL character is not allowed in file names")
    return Path(os.fsdecode(named))


def axes(given: object, dim: int) -> NDArray[np.float64] | None:
    """Return a projection as a matrix; None if it is not a matrix."""
    matrix = projection(given, dim)
    if isinstance(matrix, np.ndarray) and not (np.isfinite(matrix).all() and matrix.any()):
        raise ParameterError("projection must be a finite matrix that is not all zeros")
    return matrix if isinstance(matrix, np.ndarray) else None


def seconds(name: str, given: object) -> float:
    """Return a number of seconds."""
    if not _is_finite(given) or not 0 <= float(given) <= MAX_SECONDS:
        raise ParameterError(f"{name} must be a number of seconds from 0 to {MAX_SECONDS}, got {given!r}")
    return float(given)


def flag(name: str, given: object) -> None:
    """Check that a value is True or False."""
    if not isinstance(given, (bool, np.bool_)):
        raise ParameterError(f"{name} must be True or False, got {given!r}")


def choice(name: str, given: object, choices: Sequence[str]) -> None:
    """Check that a value is one of the given words."""
    if given not in choices:
        raise ParameterError(f"{name} must be one of {', '.join(choices)}, got {given!r}")


def several(name: str, given: object) -> list[Any]:
    """Return an iterable as a list."""
    if not isinstance(given, Iterable):
        raise ParameterError(f"{name} must be an iterable, got {given!r}")
    return list(given)


def texts_and_vectors(name: str, given: object) -> list[str | NDArray[np.floating]]:
    """Return texts and vectors as a list. A single text or vector becomes a list of one."""
    if isinstance(given, str) or (isinstance(given, np.ndarray) and given.ndim == 1):
        given = [given]
    if not isinstance(given, Iterable):
        raise ParameterError(f"{name} must be an iterable of texts and vectors, got {given!r}")
    if isinstance(given, np.ndarray) and not given.ndim:
        raise ParameterError(f"{name} must be an iterable of texts and vectors, got {given!r}")
    several = [each if isinstance(each, str) else _vector(name, each) for each in given]
    for each in several:
        if isinstance(each, str) and any("\ud800" <= sign <= "\udfff" for sign in each):
            raise ParameterError(
                f"{name} must be texts that a store can hold, but {each!r} contains half of a surrogate pair"
            )
    return several


def _vector(name: str, given: object) -> NDArray[np.floating]:
    """Return a one-dimensional array of finite floats."""
    wanted = f"{name} must be texts and one-dimensional arrays of finite floats"
    try:
        vector = np.asarray(given)
    except (TypeError, ValueError):
        raise ParameterError(f"{wanted}, got {given!r}") from None
    if vector.ndim != 1:
        raise ParameterError(f"{wanted}, got an array of {vector.ndim} dimensions")
    if vector.dtype.kind != "f":
        raise ParameterError(f"{wanted}, got an array of {vector.dtype}")
    if not np.isfinite(vector).all():
        raise ParameterError(f"{wanted}, got an array with NaN or infinity")
    return vector
