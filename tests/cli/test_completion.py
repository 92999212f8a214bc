"""Completion of the command line: a real bash asks, and what it is given is what the command takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from command_line import check_refused, erase, shell
from erase_core.cli.app import app
from erase_core.erasure.admission import OnDuplicate, OnForgotten
from erase_core.erasure.request import Match, OnMissing
from erase_core.examples.control_tokens import OnControlTokens
from erase_core.examples.formats import FORMATS
from erase_core.llm.prompt import Context
from erase_core.settings import Strategy
from processes import HANG
from typer.main import get_command

BASH = shutil.which("bash")
# Words before the one to complete, and all values that the option takes.
VALUES = {
    "init --strategy": get_args(Strategy),
    "init --context": get_args(Context),
    "init --on-control-tokens": get_args(OnControlTokens),
    "ingest x --format": FORMATS,
    "ingest x --forgotten": get_args(OnForgotten),
    "ingest x --duplicate": get_args(OnDuplicate),
    "ingest x --on-control-tokens": get_args(OnControlTokens),
    "forget --missing": get_args(OnMissing),
    "forget --match": get_args(Match),
    "evaluate --forget": ("random", "subject", "worst", "canaries"),
    "scan x --embedder": ("packaged",),
}


def asked(words: str, **environment: str) -> list[str]:
    """What the command reports to bash, which asks by environment variables, for the last of several words."""
    asking = {
        "_ERASE_COMPLETE": "complete_bash",
        "COMP_WORDS": f"erase {words}",
        "COMP_CWORD": str(words.count(" ") + 1),
    }
    result = erase(env={**asking, **environment})
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.split()


def test_the_commands_are_completed() -> None:
    commands = list(getattr(get_command(app), "commands"))  # noqa: B009 -- not an attribute of all commands
    assert asked("") == commands
    assert asked("re") == [name for name in commands if name.startswith("re")]
    assert asked("receipts ") == ["list", "show", "verify"]


@pytest.mark.parametrize("words", VALUES)
def test_the_values_of_an_option_are_completed(words: str) -> None:
    values = VALUES[words]
    assert asked(f"{words} ") == list(values)
    for value in values:
        assert asked(f"{words} {value[:2]}") == [each for each in values if each.startswith(value[:2])]


def test_an_option_is_completed() -> None:
    assert asked("init --strat") == ["--strategy"]


def test_what_was_typed_before_is_not_carried_out() -> None:
    assert asked("--version stat") == ["status"]
    assert asked("status --public-key ", ERASE_PUBLIC_KEY="") == []
    assert asked("forget --subject ann --yes --js") == ["--json"]


def test_completion_reads_no_store(tmp_path: Path) -> None:
    assert asked(f"status --store {tmp_path / 'none'} --js") == ["--json"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_bash_completes_by_the_script_that_it_is_given(tmp_path: Path) -> None:
    command = tmp_path / "erase"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m erase_core "$@"\n')
    command.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(
        "source <(erase --show-completion) || exit\n"
        "complete -p erase\n"
        "COMP_WORDS=(erase init --strategy k) COMP_CWORD=3\n"
        "_erase_completion erase k --strategy\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(BASH), "--norc", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=HANG
    )
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, lines[1:]) == (0, "", ["knn kmeans"]), done
    assert lines[0].endswith(" erase"), lines


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_installing_writes_for_the_shell_of_the_user(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BASH), "--norc", "-c", f'"{sys.executable}" -m erase_core --install-completion; exit $?'],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    (installed,) = (tmp_path / ".bash_completions").iterdir()
    assert str(installed) in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
@pytest.mark.parametrize("found", ["dash", None])
def test_another_shell_gets_an_error(option: str, found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import shellingham

    def detect() -> tuple[str, str]:
        if found is None:
            raise shellingham.ShellDetectionFailure
        return found, f"/bin/{found}"

    monkeypatch.setattr(shellingham, "detect_shell", detect)
    check_refused(erase(option), 2, option, "bash, zsh, fish", found or "none")


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "erase_core", "--help"], capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", shell("--help").stdout)


# ---- help ----
def test_the_help_of_a_command_lists_each_option_once() -> None:
    commands = getattr(get_command(app), "commands")  # noqa: B009
    for name, command in commands.items():
        text = erase(name, "--help").stdout
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        entries = [line.strip().partition("  ")[0] for line in text.splitlines() if line.startswith("  -")]
        listed = [word for entry in entries for word in entry.replace(",", " ").split() if word.startswith("--")]
        for option in options:
            assert listed.count(option) == 1, (name, option)


def test_the_options_of_init_are_in_groups() -> None:
    lines = erase("init", "--help").stdout.splitlines()
    headings = [line for line in lines if line and not line.startswith(" ")]
    assert len(headings) > 4, headings
    for heading, following in pairwise(lines):
        if heading in headings[1:]:
            assert following.startswith("  -"), heading
