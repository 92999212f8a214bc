"""Arguments of `DistributedQKMeans`: parts that fit together, and ids that are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from erase_core.distributed.engines.protocol import Engine
from erase_core.distributed.holder import Id
from erase_core.distributed.parts import Columns, Measure, Part, RayPart, parts_of
from erase_core.distributed.shards import names
from erase_core.errors import ParameterError, PartError, UnknownIdError

__all__ = ["check_known", "columns", "given_parts", "matched", "numbering", "width"]


def columns(given: Any) -> Columns:
    """Return the names of two columns."""
    if not isinstance(given, (tuple, list)) or [type(each) for each in given] != [str, str]:
        raise ParameterError(f"columns must be the names of ids and of vectors, two strings, got {given!r}")
    return given[0], given[1]


def given_parts(given: Any, columns: Columns, engine: Engine) -> list[Part]:
    """Return what a caller gives as parts, as `parts_of` does, if the engine can read them."""
    parts = parts_of(given, columns)
    if not engine.takes_ray_data and (blocks := [part for part in parts if isinstance(part, RayPart)]):
        raise ParameterError(
            f"{names(blocks)}: only engine='ray' reads a Ray data set. Write it to Parquet, and give the files."
        )
    return parts


def width(measured: Sequence[Measure], parts: Sequence[Part]) -> int:
    """Return the width of the rows; that of the first part with rows counts."""
    for each in measured:
        if each.width is not None:
            return each.width
    raise ParameterError(f"the {len(parts)} parts have no rows")


def numbering(measured: Sequence[Measure], parts: Sequence[Part], first: Any) -> list[int | None]:
    """Return the number of the first row of each part without ids.

    Parameters
    ----------
    measured : list of Measure
    parts : list of Part
    first : int or callable
        The number of the first row of all; called only if numbers are needed.
    """
    with_rows = [(each, part) for each, part in zip(measured, parts, strict=True) if each.width]
    numbered = [part for each, part in with_rows if not each.has_ids]
    if numbered and len(numbered) < len(with_rows):
        raise PartError(f"{names(numbered)}: there are no ids, but other parts have some. Give ids to all, or to none.")
    firsts: list[int | None] = []
    at = (first() if callable(first) else first) if numbered else 0
    for each in measured:
        firsts.append(None if each.has_ids else at)
        at += 0 if each.has_ids else each.n_rows
    return firsts


def matched(numbers: Sequence[int], missing: Sequence[Part], given: Sequence[Part]) -> dict[int, Part]:
    """Return parts that are given again, by number."""
    if len(given) != len(numbers):
        wanted = f"the {len(numbers)} parts that are missing, in their order: {names(missing)}" if numbers else "none"
        raise ParameterError(f"parts must be {wanted}; got {len(given)}")
    return dict(zip(numbers, given, strict=True))


def check_known(ids: Sequence[Id], known: Iterable[Any], consequence: str = "") -> None:
    """Check that all ids are known."""
    unknown = [id_ for id_, is_known in zip(ids, known, strict=True) if not is_known]
    if unknown:
        shown = ", ".join(repr(id_) for id_ in unknown[:5]) + (f" and {len(unknown) - 5} more" if unknown[5:] else "")
        raise UnknownIdError(f"ids are not in the model: {shown}{consequence}")
