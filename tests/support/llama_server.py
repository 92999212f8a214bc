"""A real model server: llama.cpp with the packaged model, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from erase_core.errors import MissingPackageError
from erase_core.llm.packaged import packaged_model

xllamacpp = pytest.importorskip("xllamacpp", reason="needs a llama.cpp server: pip install xllamacpp")


@contextmanager
def packaged_model_served(context_length: int) -> Iterator[str]:
    """The address of the server, for as long as this lasts. Skips the test if the model is not installed."""
    try:
        model = packaged_model()
    except MissingPackageError as error:
        pytest.skip(str(error))
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any that is free
    params.n_ctx, params.n_parallel, params.n_gpu_layers = context_length, 1, 0
    # On few processors threads that wait for one another by spinning take minutes.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup, params.verbosity = False, -1
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server
