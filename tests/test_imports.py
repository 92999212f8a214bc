"""What is imported when: nothing heavy by the package and its command, and by a store only what it works with."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import erase_core
import pytest
from erase_core import Erase
from erase_core.embedding import loading
from erase_core.errors import MissingPackageError
from processes import run
from small_stores import WordEmbedder, some

HEAVY = {
    "sklearn",
    "scipy",
    "pandas",
    "torch",
    "transformers",
    "sentence_transformers",
    "rich",
    "openai",
    "cryptography",
}
HEAVY |= {"dask", "distributed", "ray"}
HEAVY |= {"fastapi", "httpx", "prometheus_client", "starlette", "uvicorn"}
HEAVY |= {"pyarrow", "polars", "narwhals", "datasets", "huggingface_hub", "matplotlib", "jinja2", "numpy.testing"}
# Every store seals its examples.
CIPHER = {"cryptography"}
# Commands end the interpreter, so what they imported is shown at its end.
SHOW = "import atexit, json, sys\natexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))))\n"
COMMAND = f"{SHOW}sys.argv[0] = 'erase'\nfrom erase_core.cli.app import main\nmain()"


def heavy(program: str, *arguments: str | Path) -> set[str]:
    """The heavy packages that a program had imported at its end, in a process of its own."""
    done = run(program, *arguments)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1])) & HEAVY


def test_heavy_packages_would_be_seen() -> None:
    assert "sklearn" in heavy(f"{SHOW}from erase_core import QKMeans")


@pytest.mark.parametrize("module", ["erase_core", "erase_core.cli.app", "erase_core.erase", "erase_core.llm"])
def test_the_package_is_light(module: str) -> None:
    assert heavy(f"{SHOW}import {module}") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["init", "--help"], ["receipts", "list", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    assert heavy(COMMAND, *arguments) == set()


@pytest.mark.parametrize("words", ["erase ", "erase init --strategy "])
def test_completion_is_light(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = {"_ERASE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    for name, value in asking.items():
        monkeypatch.setenv(name, value)
    assert heavy(COMMAND) == set()


def test_a_store_works_without_scikit_learn(path: Path, tmp_path: Path) -> None:
    with Erase.create(path, embedder=WordEmbedder(), n_shots=3, strategy="kmeans") as erase:
        erase.ingest(some(12))
    assert heavy(COMMAND, "prompt", "a question", "--store", path) == CIPHER
    assert heavy(COMMAND, "forget", "--yes", "--id", "3", "--store", path) == CIPHER
    assert heavy(COMMAND, "status", "--store", path) == CIPHER
    assert heavy(COMMAND, "verify", "--store", path) == CIPHER


def test_making_a_store_loads_no_model(path: Path) -> None:
    try:
        loading.find(None)
    except MissingPackageError as missing:
        pytest.skip(str(missing))
    pytest.importorskip("sentence_transformers")
    assert heavy(COMMAND, "init", "--store", path) == CIPHER


# ---- the name that comes when it is asked for ----
def test_all_public_names_are_there_and_listed() -> None:
    for name in erase_core.__all__:
        assert getattr(erase_core, name) is not None
    assert set(erase_core.__all__) <= set(dir(erase_core))
    everything: dict[str, object] = {}
    exec("from erase_core import *", everything)
    assert everything["QKMeans"] is erase_core.QKMeans


def test_it_is_listed_before_it_is_there() -> None:
    program = "import erase_core, sys; assert 'QKMeans' in dir(erase_core); assert 'sklearn' not in sys.modules"
    assert run(program).returncode == 0


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'KMeans'"):
        erase_core.KMeans  # noqa: B018


def test_a_model_is_unpickled_where_nothing_was_imported(tmp_path: Path) -> None:
    file = tmp_path / "model"
    model = erase_core.QKMeans(2).fit([[0.0], [1.0], [5.0], [6.0]])
    file.write_bytes(pickle.dumps(model))
    done = run("import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).digest())", file)
    assert done.stdout.strip() == model.digest()
