"""What embeds on a worker. It knows nothing of engines."""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from erase_core._core import __version__
from erase_core.embedding.sentence import Embedder
from erase_core.errors import EmbedderError, EraseError, first_line
from erase_core.libraries import torch_threads, version_of

__all__ = ["PROCESS", "EmbeddingHolder", "Probed", "probed"]

# Differs between processes.
PROCESS = uuid4().hex
PACKAGES = ("torch", "transformers", "tokenizers", "sentence-transformers", "numpy")


class Probed(NamedTuple):
    """What a process gives the probe texts.

    Attributes
    ----------
    hashes : list of bytes
        A hash of each vector.
    threads : int or None
        Threads of torch, if it is in use.
    where : str
        The process.
    facts : dict
        What the bits may depend on, by name.
    """

    hashes: list[bytes]
    threads: int | None
    where: str
    facts: dict[str, str]


class EmbeddingHolder:
    """An embedding model on a worker. It keeps no text and no vector."""

    def __init__(self) -> None:
        self._embedder: Embedder
        # Threads of torch while it embeds. None: as the process has them.
        self._threads: int | None = None
        self._is_caller = False

    def load(self, model: bytes, process: str) -> None:
        """Load a pickled embedder.

        Raises
        ------
        EmbedderError
        """
        # The threads of the caller's own process are left alone.
        self._is_caller = process == PROCESS
        try:
            self._embedder = pickle.loads(model)
        except Exception as error:
            raise EmbedderError(
                f"the embedding model cannot be loaded there ({first_line(error)}). Workers need the model's files at "
                "the same place, or its package, and erase-core with the extra llm."
            ) from None

    def probe(self, texts: Sequence[str], threads: int | None) -> Probed:
        """Embed probe texts with so many threads, which are used from then on."""
        self._threads = threads
        with self._fitting_threads():
            return probed(self._embedder, texts)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of texts.

        Raises
        ------
        EmbedderError
            It has nothing of the texts, and nothing of what the model said of them.
        """
        try:
            with self._fitting_threads():
                return np.array(self._embedder.embed(texts), dtype=np.float32)
        except Exception as error:
            kind = type(error).__name__
        raise EmbedderError(
            f"the embedding model {self._embedder.name} failed with {kind}. Ingest without an engine to see the error."
        )

    @contextmanager
    def _fitting_threads(self) -> Iterator[None]:
        if "torch" not in sys.modules or self._threads is None or self._is_caller:
            yield
            return
        with torch_threads(self._threads):
            yield


def probed(embedder: Embedder, texts: Sequence[str]) -> Probed:
    """Return what this process gives probe texts.

    Raises
    ------
    EmbedderError
        The model fails.
    """
    try:
        vectors = np.array(embedder.embed(list(texts)), dtype=np.float32)
    except EraseError:
        raise
    except Exception as error:  # any model may raise anything; these texts are public
        raise EmbedderError(
            f"the embedding model {embedder.name} does not embed the probe texts ({first_line(error)})"
        ) from None
    hashes = [hashlib.blake2b(vector.tobytes(), digest_size=16).digest() for vector in vectors]
    facts = {"erase-core": __version__, "python": platform.python_version(), "processor": platform.machine()}
    threads = None
    if (torch := sys.modules.get("torch")) is not None:
        threads = torch.get_num_threads()
        facts |= {"instructions": torch.backends.cpu.get_cpu_capability(), "threads": str(threads)}
        facts |= {name: found for name in PACKAGES if (found := version_of(name))}
    return Probed(hashes, threads, f"process {os.getpid()} on {platform.node()}", facts)
