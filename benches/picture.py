"""The README's picture of `make demo`: what it prints on a terminal, drawn in a monospaced font. `make picture`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.text import Text

COLUMNS = 100
SIZE, LINE, MARGIN = 20, 26, 24
BACKGROUND, PLAIN, DIM = (41, 41, 41), (215, 215, 215), (140, 140, 140)
COLOURS: dict[int | None, tuple[int, int, int]] = {1: (224, 92, 92), 2: (150, 178, 84)}  # red and green


def terminal_output(command: list[str]) -> str:
    """Return what a command writes to a terminal. Bars and spinners go to stderr, and are left out."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    return b"".join(parts).decode().replace("\r\n", "\n")


def draw(output: str) -> Image.Image:
    """Return a picture of a terminal's output."""
    fonts = Path(matplotlib.get_data_path()) / "fonts/ttf"
    plain, bold = (ImageFont.truetype(fonts / name, SIZE) for name in ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"))
    lines = [Text.from_ansi(line) for line in output.strip("\n").split("\n")]
    advance = plain.getlength("m")
    width = max(len(line) for line in lines)
    picture = Image.new("RGB", (int(width * advance) + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN), BACKGROUND)
    pen = ImageDraw.Draw(picture)
    console = Console(width=COLUMNS)
    for row, line in enumerate(lines):
        for column, character in enumerate(line.plain):
            style = line.get_style_at_offset(console, column)
            colour = COLOURS.get(style.color.number if style.color else None, DIM if style.dim else PLAIN)
            place = (MARGIN + column * advance, MARGIN + row * LINE)
            pen.text(place, character, font=bold if style.bold else plain, fill=colour)
    return picture


if __name__ == "__main__":
    erase = Path(sys.executable).with_name("erase")
    draw(terminal_output([str(erase), "demo"])).save(sys.argv[1], optimize=True)
