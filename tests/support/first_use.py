"""What a first-time user does with the wheel alone: clustering, and a store with an embedder of their own.

Runs in any environment that has the package, and uses nothing of the checkout. Where a store does not work (Windows),
it must be refused by the one error that says so.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import erase_core
import numpy as np
from numpy.typing import NDArray


class Letters:
    """Counts letters, as a stand-in for an embedding model."""

    name, dim = "letters", 26

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        counts = [[text.lower().count(chr(97 + letter)) for letter in range(self.dim)] for text in texts]
        vectors = np.array(counts, dtype=np.float32) + 0.01
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def cluster() -> None:
    """After removals, the model is that of a fresh fit."""
    rows = np.random.default_rng(0).normal(size=(300, 8))
    model = erase_core.QKMeans(n_clusters=4, max_norm=16.0, random_state=0).fit(rows)
    model.remove([1, 17, 99])
    kept = np.setdiff1d(np.arange(300), [1, 17, 99])
    fresh = erase_core.QKMeans(n_clusters=4, max_norm=16.0, random_state=0).fit(rows[kept], ids=kept)
    assert model.digest() == fresh.digest()


def store(folder: Path) -> None:
    """An example that was forgotten is in no prompt and no file, and a receipt says so."""
    tickets = [
        {"id": 1, "input": "where is my parcel?", "output": "delivery", "subject": "customer-42"},
        {"id": 2, "input": "please send my money back", "output": "refund", "subject": "customer-7"},
        {"id": 3, "input": "you charged me twice", "output": "refund", "subject": "customer-9"},
    ]
    with erase_core.Erase.create(
        folder / "store", receipts=folder / "receipts", n_shots=2, embedder=Letters()
    ) as erase:
        erase.ingest(tickets)
        erase.forget(subject="customer-7")
        assert "money back" not in erase.prompt("my money, please").text
        assert erase.verify(absent=["please send my money back"]).ok
    assert erase_core.verify_receipts(folder / "receipts").ok
    erase_core.Erase.open(folder / "store", embedder=Letters()).close()


def main() -> None:
    cluster()
    with tempfile.TemporaryDirectory() as folder:
        if sys.platform == "win32":
            try:
                store(Path(folder))
            except erase_core.PlatformError as error:
                print(error)
            else:
                raise AssertionError("a store was not refused")
        else:
            store(Path(folder))
    print(f"erase-core {erase_core.__version__} works on {platform.platform()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
