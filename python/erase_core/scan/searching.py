"""Searches bytes for texts and vectors, and keeps what was found where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from erase_core.scan.directions import Directions
from erase_core.scan.report import Kind, ScanFinding
from erase_core.verify.forms import forms_of_text, forms_of_vector
from erase_core.verify.needles import Joined, Needles, Place

__all__ = ["Searcher"]

# Bytes to search at a time.
PART = 2**20
SAME_DIRECTION, NORMALISED = "float32 in the same direction", "normalised "
# Compressed and encrypted bytes are nearly uniform: more than so many bits of entropy in each byte ...
ENTROPY = 7.9
# ... or, in a short part, less than this by a chi-squared test with 255 degrees of freedom.
CHI_SQUARED = 350
SHORTEST_SAMPLE = 512
# Shorter values may be random ids.
SHORTEST_VALUE = 64

Target = tuple[Kind, int]


class Searcher:
    """A search for texts and vectors.

    Parameters
    ----------
    texts : sequence of str
    embeddings, vectors : sequence of ndarray
        The vectors of the texts, and further vectors.

    Attributes
    ----------
    findings : dict
        What was found, in the order of finding, by place, target and form.

    Raises
    ------
    ParameterError
        A text is too short, or a vector has only zeros.
    """

    def __init__(
        self, texts: Sequence[str], embeddings: Sequence[NDArray[np.floating]], vectors: Sequence[NDArray[np.floating]]
    ) -> None:
        self.findings: dict[tuple[str, Target, str], ScanFinding] = {}
        every: list[tuple[Target, NDArray[np.floating]]] = [
            (("embedding", number), vector) for number, vector in enumerate(embeddings, 1)
        ]
        every += [(("vector", number), vector) for number, vector in enumerate(vectors, 1)]
        needles: list[tuple[Target, str, bytes]] = []
        for number, text in enumerate(texts, 1):
            needles += [(("text", number), form, content) for form, content in forms_of_text(text).items()]
        for target, vector in every:
            needles += [(target, form, content) for form, content in _forms(vector).items()]
        self._labels = [(target, form) for target, form, _ in needles]
        self._needles = Needles([content for _, _, content in needles])
        self._targets: list[Target] = [target for target, _ in every]
        self._directions = Directions([vector for _, vector in every])
        # Parts overlap by this, so that what lies across two parts is found.
        self._overlap = min(PART, max(self._needles.longest, self._directions.longest))
        self._buffer = bytearray(PART + self._overlap)

    def stream(self, file: BinaryIO, place: str) -> bool:
        """Search a stream from its position to its end. Return whether a part looks compressed or encrypted."""
        return self._search(file, lambda offset: (place, offset))

    def values(self, values: Iterable[tuple[str, bytes]]) -> list[str]:
        """Search values of tables, each with its place. Return the places whose values look compressed or encrypted."""
        batches: dict[str, list[bytes]] = {}
        sizes: dict[str, int] = {}
        sealed: dict[str, bool] = {}
        for place, value in values:
            batches.setdefault(place, []).append(value)
            sizes[place] = sizes.get(place, 0) + len(value)
            if sizes[place] >= PART:
                sealed[place] = self._batch(place, batches.pop(place)) or sealed.get(place, False)
                del sizes[place]
        for place, batch in batches.items():
            sealed[place] = self._batch(place, batch) or sealed.get(place, False)
        return [place for place, is_sealed in sealed.items() if is_sealed]

    def _batch(self, place: str, batch: list[bytes]) -> bool:
        joined = Joined(batch)
        self._search(BytesIO(joined.content), lambda offset: (place, joined.locate(offset)[1]))
        sample = b"".join(value for value in batch if len(value) >= SHORTEST_VALUE)[:PART]
        return _looks_sealed(np.frombuffer(sample, np.uint8))

    def _search(self, file: BinaryIO, locate: Callable[[int], tuple[str, int]]) -> bool:
        buffer, sealed = self._buffer, False
        start = kept = 0
        while count := file.readinto(memoryview(buffer)[kept : kept + PART]):  # type: ignore[attr-defined]
            end = kept + count
            sealed = sealed or _looks_sealed(np.frombuffer(buffer, np.uint8, offset=kept, count=count))
            for found in self._needles.find(buffer, end):
                target, form = self._labels[found.which]
                self._keep(found, target, form, locate, start)
            for found in self._directions.find(buffer, end):
                self._keep(found, self._targets[found.which], SAME_DIRECTION, locate, start)
            kept = min(self._overlap, end)
            start += end - kept
            buffer[:kept] = buffer[end - kept : end]
        return sealed

    def _keep(
        self, found: Place, target: Target, form: str, locate: Callable[[int], tuple[str, int]], start: int
    ) -> None:
        place, offset = locate(start + found.offset)
        same = [form, form.removeprefix(NORMALISED)]
        if form == SAME_DIRECTION:
            same += ["float32", f"{NORMALISED}float32"]
        before = [self.findings[place, target, each] for each in same if (place, target, each) in self.findings]
        if not before or (found.whole and not any(each.whole for each in before)):
            self.findings[place, target, form] = ScanFinding(*target, form, place, offset, found.whole)


def _forms(vector: NDArray[np.floating]) -> dict[str, bytes]:
    """Return the encodings of a vector, and those of its direction that differ from them."""
    forms = forms_of_vector(vector)
    double = vector.astype(np.float64)
    norm = float(np.linalg.norm(double / np.abs(double).max())) * float(np.abs(double).max())
    normalised = forms_of_vector(double / norm)
    known = set(forms.values())
    return forms | {f"{NORMALISED}{form}": content for form, content in normalised.items() if content not in known}


def _looks_sealed(part: NDArray[np.uint8]) -> bool:
    if len(part) < SHORTEST_SAMPLE:
        return False
    counts = np.bincount(part, minlength=256)
    expected = len(part) / 256
    shares = counts[counts > 0] / len(part)
    entropy = -float((shares * np.log2(shares)).sum())
    return entropy > ENTROPY or float(((counts - expected) ** 2 / expected).sum()) < CHI_SQUARED
