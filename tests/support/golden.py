"""The golden models of tests/vectors, as parameters and rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkout import VECTORS
from fits import Config, Id

MODELS: list[dict[str, Any]] = json.loads((VECTORS / "models.json").read_text("ascii"))
each_vector = pytest.mark.parametrize("vector", MODELS, ids=[vector["name"] for vector in MODELS])


def golden_config(vector: dict[str, Any]) -> Config:
    """The parameters of a vector."""
    given = vector["params"]
    projection = given["projection"]
    if isinstance(projection, list):
        projection = tuple(tuple(float.fromhex(v) for v in row) for row in projection)
    return Config(
        n_clusters=given["n_clusters"],
        epsilon=tuple(given["epsilon"]),
        gamma=tuple(given["gamma"]),
        max_iter=given["max_iter"],
        panel=given["panel"],
        projection=projection,
        max_norm=None if given["max_norm"] is None else float.fromhex(given["max_norm"]),
        center=tuple(map(float.fromhex, given["center"])) if "center" in given else None,
        seed=given["seed"],
        d=vector["n_features"],
    )


def golden_rows(vector: dict[str, Any]) -> dict[Id, list[float]]:
    """The rows of a vector by their ids."""
    return {i: [float.fromhex(v) for v in row] for i, row in zip(vector["ids"], vector["rows"], strict=True)}
