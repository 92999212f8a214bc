"""A framework is imported by its module alone. If it is missing, the error says what to install."""

from __future__ import annotations

import json

import pytest
from erase_core.errors import MissingPackageError
from erase_core.integrations import extra
from processes import run

FRAMEWORKS = {name: name for name in ("dspy", "haystack", "litellm", "lm_eval")} | {"langchain": "langchain_core"}
EXTRAS = {name: name.replace("_", "-") for name in FRAMEWORKS}


def test_the_wing_imports_no_framework() -> None:
    done = run("import erase_core.integrations, sys, json; print(json.dumps(sorted(sys.modules)))")
    assert set(json.loads(done.stdout)) & set(FRAMEWORKS.values()) == set()


@pytest.mark.parametrize("module", FRAMEWORKS)
def test_a_missing_framework_is_named_with_its_extra(module: str) -> None:
    done = run(f"import sys; sys.modules[{FRAMEWORKS[module]!r}] = None; import erase_core.integrations.{module}")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("erase_core.errors.MissingPackageError")
    assert f"pip install 'erase-core[{EXTRAS[module]}]'" in last


def test_only_missing_packages_are_reported_as_missing() -> None:
    with pytest.raises(ValueError, match="damaged"), extra("langchain"):
        raise ValueError("damaged")
    with pytest.raises(MissingPackageError, match="nowhere"), extra("langchain"):
        import nowhere  # type: ignore[import-not-found]  # noqa: F401
