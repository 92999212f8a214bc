"""The notebook: cells read from a Python file, run in a kernel of Jupyter, and shown as a page of the site.

The file is an ordinary program, which a test runs. A line `# %%` begins a cell of code, `# %% [markdown]` one of text.
"""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

__all__ = ["cells", "executed", "write"]

SOURCE = Path(__file__).parents[1] / "notebook" / "support_desk.py"
CELL = re.compile(r"^# %%(?P<text> \[markdown\])?\n", re.MULTILINE)
SECONDS = 600
# Colours of a terminal, which some libraries print.
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def cells(source: str) -> list[Any]:
    """Return the cells of a file; what comes before the first one is left out."""
    made = []
    marks = [*CELL.finditer(source)]
    for mark, end in zip(marks, [*(each.start() for each in marks[1:]), len(source)], strict=True):
        body = source[mark.end() : end].strip()
        if mark["text"]:
            made.append(nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", body, flags=re.MULTILINE)))
        else:
            made.append(nbformat.v4.new_code_cell(body))
    return made


@cache
def _run() -> Any:
    """Run all cells, in an empty folder, and return the notebook with what they printed."""
    made = nbformat.v4.new_notebook(cells=cells(SOURCE.read_text(encoding="utf-8")))
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            made,
            timeout=SECONDS,
            resources={"metadata": {"path": folder}},
            # The kernel listens on this machine only, and answers no one without its key. It warns about that.
            extra_arguments=["--log-level=ERROR"],
        ).execute()
    return made


def executed() -> str:
    """Return the notebook as Markdown: texts, code, and below it what the code printed."""
    return "\n\n".join(part for cell in _run().cells for part in _shown(cell))


def write(folder: Path) -> None:
    """Write the executed notebook, for Jupyter, into a folder."""
    (folder / "notebook").mkdir(exist_ok=True)
    nbformat.write(_run(), folder / "notebook" / f"{SOURCE.stem}.ipynb")


def _shown(cell: Any) -> list[str]:
    if cell.cell_type == "markdown":
        return [cell.source]
    return [f"```python\n{cell.source}\n```", *(_output(each) for each in cell.outputs if each.get("name") != "stderr")]


def _output(output: Any) -> str:
    """Return an output as Markdown: HTML and pictures as they are, anything else as text."""
    data = output.get("data", {})
    if "text/html" in data:
        return f'<div class="output">\n{data["text/html"].strip()}\n</div>'
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{data["image/png"].strip()}">'
    text = ESCAPES.sub("", data.get("text/plain") or output.get("text", "")).rstrip()
    return f"```{{.text .output}}\n{text}\n```"
