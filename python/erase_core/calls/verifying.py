"""A call of `verify`: encodes what to search for, verifies the store, and repairs the snapshot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from erase_core.backends import checked_vectors
from erase_core.calls.handle import Handle
from erase_core.errors import ParameterError
from erase_core.receipts.receipt import ReceiptRef
from erase_core.reports import Verification
from erase_core.verify.scan import forms_of_text, forms_of_vector
from erase_core.verify.verification import verify

__all__ = ["verify_store"]


def verify_store(
    handle: Handle, absent: Sequence[str | NDArray[np.floating]], known: Sequence[ReceiptRef]
) -> Verification:
    """Verify a store. See `Erase.verify`."""
    # verify 1: the texts and vectors to search for
    forms = _forms(handle, absent)
    verification = verify(handle.store, handle.clustering, handle.receipts, forms, known)
    # verify 9: the snapshot
    with handle.reading():  # which repairs it
        pass
    return verification


def _forms(handle: Handle, absent: Sequence[str | NDArray[np.floating]]) -> list[dict[str, bytes]]:
    """Return the encodings to search for, of each text and vector. Those of a text include its vector's."""
    dim = handle.store.constants.dim
    for vector in absent:
        if not isinstance(vector, str) and vector.shape != (dim,):
            raise ParameterError(f"absent vectors must have the shape ({dim},), got {vector.shape}")
    forms = [forms_of_text(each) if isinstance(each, str) else forms_of_vector(each) for each in absent]
    texts = [each for each in absent if isinstance(each, str)]
    vectors = iter(checked_vectors(handle.models.embedder, texts) if texts else ())
    for form, each in zip(forms, absent, strict=True):
        if isinstance(each, str):
            form |= {f"its vector as {name}": content for name, content in forms_of_vector(next(vectors)).items()}
    return forms
