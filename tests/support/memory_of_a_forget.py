"""A process that takes examples in, answers, and forgets some; test_memory.py searches its memory from outside.

A program of its own: it stops before and after the removal until it is told to go on. Vectors come from a file that is
masked, and are unmasked in the array that is handed over, so that what is found of them is not the embedder's. Of ids
only the first four digits are told, their numbers. If it is told to, it holds on to all keys and texts, so that they
can be found.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from erase_core.erase import Erase
from numpy.typing import NDArray
from small_stores import parts_of

QUERY = "where is my parcel"


class MaskedEmbedder:
    """Gives the vectors of a file, for the texts of another file in their order; for a single text a fixed one."""

    name = "masked"

    def __init__(self, folder: Path) -> None:
        self._masked, self._mask = np.load(folder / "masked.npy"), np.load(folder / "mask.npy")
        self.dim = int(self._mask.shape[1])

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        if len(texts) == len(self._masked):
            np.bitwise_xor(self._masked, self._mask, out=vectors.view(np.uint32))
        else:
            vectors[:] = self.dim**-0.5
        return vectors


def stop(**told: object) -> None:
    """Tell how far it is, and wait."""
    print(json.dumps(told), flush=True)
    sys.stdin.readline()


def cached(llm: Any, mask: NDArray[np.uint32]) -> dict[str, object]:
    """Where the prefix cache lies, and, masked, the first layer's keys of every eighth token in it."""
    if llm is None:
        return {"buffers": [], "keys": []}
    buffers = llm._memory.buffers
    keys = buffers[0][0, 0].numpy().view(np.uint32)
    size = keys.shape[1]
    return {
        "buffers": [[tensor.data_ptr(), tensor.nbytes] for tensor in buffers],
        "keys": [(keys[i] ^ mask[0, :size]).tobytes().hex() for i in range(8, llm._memory.n_tokens, 8)],
    }


def shown(erase: Erase) -> list[Any]:
    """The ids of what is to be forgotten, which nobody holds on to."""
    return [example.id for example in erase.demonstrations(QUERY)][:3]


def main(folder: Path, given: dict[str, Any]) -> None:
    embedder: Any = None if given["real"] else MaskedEmbedder(folder)
    llm = None
    if given["model"] is not None:
        from erase_core.llm import TransformersLLM

        llm = TransformersLLM(given["model"] or None)
    options: dict[str, Any] = {"strategy": given["strategy"], "n_shots": 4}
    erase = Erase.create(folder / "store", embedder=embedder, llm=llm, **options)
    erase.ingest(folder / "examples.jsonl")
    if llm is not None:
        erase.ask(QUERY, max_tokens=2)
    erase.prompt(QUERY)
    if given["verify"]:
        assert erase.verify().ok
    held = (parts_of(erase).store.keys.all(), erase.examples()) if given["hold"] else None
    gc.collect()
    stop(going=[int(id_[:4]) for id_ in shown(erase)], **cached(llm, np.load(folder / "mask.npy")))
    gc.collect()
    erase.forget(shown(erase))
    if given["verify"]:
        assert erase.verify().ok
    erase.prompt(QUERY)
    gc.collect()
    stop()
    erase.close()
    del held


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
