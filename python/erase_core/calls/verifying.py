"""A call of `verify`: encodes what to search for, and verifies the store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from erase_core.backends import checked_vectors
from erase_core.calls.open_store import OpenStore
from erase_core.errors import ParameterError
from erase_core.receipts.receipt import ReceiptRef
from erase_core.reports import Verification
from erase_core.verify.forms import forms_of_text, forms_of_vector
from erase_core.verify.verification import verify

__all__ = ["verify_store"]


def verify_store(
    opened: OpenStore,
    absent: Sequence[str | NDArray[np.floating]],
    known: Sequence[ReceiptRef],
    *,
    progress: bool,
    without_vectors: Sequence[str] = (),
) -> Verification:
    """Verify a store. See `Erase.verify`.

    Parameters
    ----------
    opened : OpenStore
    absent, known, progress
        See `Erase.verify`.
    without_vectors : sequence of str, default=()
        More texts that no file may contain. Their vectors are not searched for, so no model is loaded for them.
    """
    # verify 1: the texts and vectors to search for
    forms = [*_forms(opened, absent), *map(forms_of_text, without_vectors)]
    return verify(
        opened.read,
        opened.store.folder,
        opened.clustering,
        opened.receipts,
        opened.removals,
        forms,
        known,
        progress=progress,
    )


def _forms(opened: OpenStore, absent: Sequence[str | NDArray[np.floating]]) -> list[dict[str, bytes]]:
    """Return the encodings to search for, of each text and vector. Those of a text include its vector's."""
    dim = opened.store.constants.dim
    for vector in absent:
        if not isinstance(vector, str) and vector.shape != (dim,):
            raise ParameterError(
                f"absent vectors must have the shape ({dim},), got {vector.shape}. Give each vector by itself, as "
                "the store's embedding model returns it."
            )
    forms = [forms_of_text(each) if isinstance(each, str) else forms_of_vector(each) for each in absent]
    texts = [each for each in absent if isinstance(each, str)]
    vectors = iter(checked_vectors(opened.backends.embedder, texts) if texts else ())
    for form, each in zip(forms, absent, strict=True):
        if isinstance(each, str):
            form |= {f"its vector as {name}": content for name, content in forms_of_vector(next(vectors)).items()}
    return forms
