"""The encodings in which a file may contain a text or a vector."""

from __future__ import annotations

import base64
import json

import numpy as np
from numpy.typing import NDArray

from erase_core.errors import ParameterError

__all__ = ["SHORTEST", "forms_of_text", "forms_of_vector"]

SHORTEST = 4
# The value 1.0 in the fixed point of a model of unit vectors (docs/algorithm.md, section 3).
UNIT = 2**14


def forms_of_text(text: str) -> dict[str, bytes]:
    """Return the encodings of a text, by their names.

    Raises
    ------
    ParameterError
        The text is too short to be searched for: it would be found everywhere.
    """
    plain = text.encode("utf-8", "surrogatepass")
    if len(plain) < SHORTEST:
        raise ParameterError(f"absent must have only texts of at least {SHORTEST} bytes, got {text!r}")
    wide = {order: text.encode(order, "surrogatepass") for order in ("utf-16-le", "utf-16-be")}
    json_forms = {
        "JSON": json.dumps(text)[1:-1].encode(),
        "JSON in UTF-8": json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass"),
    }
    json_forms = {name: form for name, form in json_forms.items() if form != plain}
    return {"UTF-8": plain, **json_forms, "hex": plain.hex().encode(), **wide, **_in_base64(plain)}


def forms_of_vector(vector: NDArray[np.floating]) -> dict[str, bytes]:
    """Return the encodings of a vector, as given and as float32, by their names.

    Raises
    ------
    ParameterError
        The vector is all zeros, which would be found everywhere.
    """
    single = np.ascontiguousarray(vector, dtype=np.float32)
    if not single.any():
        raise ParameterError("absent must not have a vector of zeros, which would be found everywhere")
    fixed = np.rint(single.astype(np.float64) * UNIT).clip(-(2**15), 2**15 - 1)
    plain = single.astype("<f4").tobytes()
    forms = {
        "float32": plain,
        "float32, big-endian": single.astype(">f4").tobytes(),
        "float16": single.clip(-65504, 65504).astype("<f2").tobytes(),
        "int16": fixed.astype("<i2").tobytes(),
        **_in_base64(plain),
    }
    exact = {} if (single == vector).all() else {" as given": vector}
    for end, values in {"": single, **exact}.items():
        numbers = [repr(number) for number in values.tolist()]
        forms[f"float64{end}"] = values.astype("<f8").tobytes()
        forms[f"JSON{end}"] = ", ".join(numbers).encode()
        forms[f"compact JSON{end}"] = ",".join(numbers).encode()
    return forms


def _in_base64(content: bytes) -> dict[str, bytes]:
    """Return the base64 encodings that do not depend on the surrounding bytes: one for each of three alignments."""
    forms = {}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + content)
        first = (0, 2, 3)[before]
        last = (before + len(content)) * 8 // 6
        forms[f"base64, shifted by {before}"] = whole[first:last]
    return forms
