"""A call of `verify`: what is looked for in the files, and a snapshot that is good afterwards."""

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
    forms = _forms(handle, absent)
    verification = verify(handle.store, handle.clustering, handle.receipts, forms, known)
    # verify 8: repair the snapshot
    with handle.reading():  # which makes the snapshot good
        pass
    return verification


def _forms(handle: Handle, absent: Sequence[str | NDArray[np.floating]]) -> list[dict[str, bytes]]:
    """Return in which forms each text and vector is looked for: a text in those of its vector, too."""
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
