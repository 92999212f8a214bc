"""Puts the page that `erase evaluate` has written, and its pictures, into docs/evaluation.md: `make evaluate PAGE=1`."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- what was measured -->", "<!-- the end of what was measured -->"


def with_results(page: str, results: str) -> str:
    """Return the page with the results between its two marks, their headings one level lower."""
    lower = re.sub(r"^#", "##", results, flags=re.MULTILINE)
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"docs/evaluation.md must have the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{lower.strip()}\n\n{END}{after}"


def main() -> None:
    """Change the page of this checkout."""
    folder, page = Path(sys.argv[1]), DOCS / "evaluation.md"
    page.write_text(with_results(page.read_text(), (folder / "evaluation.md").read_text()))
    for picture in folder.glob("evaluation-*.png"):
        shutil.copy(picture, DOCS / picture.name)


if __name__ == "__main__":
    main()
