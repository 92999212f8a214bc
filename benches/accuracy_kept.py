"""The rows that are in the repository: those behind docs/accuracy.md. A run begins with them, and adds to them."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

__all__ = ["SETTING", "pack", "unpack", "whole_lines"]

KEPT = Path(__file__).with_name("accuracy.jsonl.xz")
# What all rows of a folder were measured with.
SETTING = "setting.json"


def unpack(folder: Path, kept: Path = KEPT) -> None:
    """Put the rows of the repository into a folder of results that has none."""
    if kept.exists() and not (folder / SETTING).exists():
        setting, _, rows = lzma.decompress(kept.read_bytes()).decode().partition("\n")
        (folder / "kept.jsonl").write_text(rows)
        (folder / SETTING).write_text(setting)


def pack(folder: Path, kept: Path = KEPT) -> None:
    """Write all rows of a folder of results into the repository, each once."""
    setting = json.dumps(json.loads((folder / SETTING).read_text()))
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in whole_lines(file)]
    text = "\n".join([setting, *sorted(set(lines))]) + "\n"
    kept.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def whole_lines(file: Path) -> list[str]:
    """Return the lines of a file, without a last one that was cut off because its process was stopped."""
    return file.read_text().split("\n")[:-1]
