"""The rows that are in the repository: those behind docs/accuracy.md. A run begins with them, and adds to them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable
from pathlib import Path

__all__ = ["KEPT", "SETTING", "pack", "unpack"]

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
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in _whole(file)]
    text = "\n".join([setting, *sorted(set(lines))]) + "\n"
    kept.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def _whole(file: Path) -> Iterable[str]:
    # What follows the last line break was cut off.
    return file.read_text().split("\n")[:-1]
