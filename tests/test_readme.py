"""The README and docs/erasure.md: their code, Python and shell, runs as it stands, one block after the other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from erase_core import _core
from support import HANG, ROOT

PROJECT = r"https://(?:github|raw\.githubusercontent)\.com/erase-core/erase-core"
PAGES = ["README.md", "docs/erasure.md"]


def blocks(page: str) -> list[tuple[str, str]]:
    """The page's blocks of code, each with its language."""
    return re.findall(r"^```(python|sh)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def test_links_of_the_readme_work_on_a_package_index_and_lead_to_files_that_are_here() -> None:
    """An index shows the README without the repository around it, so links must be absolute."""
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    ours = [re.fullmatch(rf"{PROJECT}/(?:blob/|tree/|)main/([^#]+)(?:#.*)?", link) for link in links]
    assert all(link.startswith("https://") for link in links)
    assert len([match for match in ours if match]) > 10
    assert [match[1] for match in ours if match and not (ROOT / match[1]).exists()] == []


def test_the_compiled_core_carries_no_debug_symbols() -> None:
    content = Path(_core.__file__).read_bytes()
    assert b".text" in content
    assert b".debug_info" not in content


@pytest.mark.parametrize("page", PAGES)
def test_there_is_code_to_run(page: str) -> None:
    assert "python" in dict(blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any("openssl" in code for _, code in blocks(page)) and shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    monkeypatch.chdir(tmp_path)
    # The command `erase` of the package that is tested.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names: dict[str, Any] = {}
    for language, code in blocks(page):
        if language == "sh":
            subprocess.run(["bash", "-euc", code], check=True, timeout=HANG)
        else:
            exec(compile(code, page, "exec"), names)
