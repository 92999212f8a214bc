"""What differs between versions of the model libraries, and that they print nothing while erase_core uses them."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from erase_core import libraries, progress
from erase_core.llm import TransformersLLM
from processes import HANG
from small_models import needs_packaged


def newer(input_ids: Any, cache: Any = None) -> None: ...


def older(input_ids: Any, past_key_values: Any = None) -> None: ...


def both(input_ids: Any, cache: Any = None, past_key_values: Any = None) -> None: ...


@pytest.mark.parametrize(
    ("forward", "name"), [(newer, "cache"), (older, "past_key_values"), (both, "cache")], ids=["newer", "older", "both"]
)
def test_the_cache_goes_by_the_name_that_the_model_has(forward: Callable[..., None], name: str) -> None:
    assert libraries.cache_keyword(SimpleNamespace(forward=forward)) == name


# ---- quiet ----
def speak() -> None:
    """Say something in each of the ways in which transformers does."""
    from transformers.utils import logging as theirs

    logging.getLogger("transformers.models").warning("a log line")
    code = "import warnings; warnings.warn('a deprecation', FutureWarning)"
    exec(compile(code, "theirs.py", "exec"), {"__name__": "transformers.models.theirs"})
    for _ in theirs.tqdm(range(3), desc="a bar"):
        pass


@pytest.fixture
def asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where nobody asked for warnings by -W or PYTHONWARNINGS."""
    monkeypatch.setattr(sys, "warnoptions", [])


@pytest.mark.usefixtures("asked_for_nothing")
def test_the_libraries_are_quiet_within_and_as_before_after_it(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with libraries.quiet(), libraries.quiet():
            speak()
        assert capfd.readouterr() == ("", "")
        assert list(warnings.filters) == before
        with pytest.warns(FutureWarning, match="a deprecation"):
            speak()
        assert "a bar" in capfd.readouterr().err


@pytest.mark.usefixtures("asked_for_nothing")
def test_other_warnings_are_shown_within() -> None:
    with libraries.quiet(), pytest.warns(UserWarning, match="of mine"):
        warnings.warn("of mine", stacklevel=1)


def test_who_asks_for_warnings_sees_them() -> None:
    assert sys.warnoptions, "conftest.py asks for them"
    with pytest.warns(FutureWarning, match="a deprecation"), libraries.quiet():
        speak()


@pytest.mark.usefixtures("asked_for_nothing")
def test_the_last_thread_to_leave_ends_the_quiet() -> None:
    from transformers.utils import logging as theirs

    first_is_in, second_is_in, first_has_left = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with libraries.quiet():
            first_is_in.set()
            assert second_is_in.wait(HANG)
        first_has_left.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert first_is_in.wait(HANG)
    with libraries.quiet():
        second_is_in.set()
        assert first_has_left.wait(HANG)
        assert not theirs.is_progress_bar_enabled()
    thread.join()
    assert theirs.is_progress_bar_enabled()


def test_the_conversion_of_tensors_is_shown_on_our_bar(capfd: pytest.CaptureFixture[str]) -> None:
    from transformers import modeling_gguf_pytorch_utils as module

    theirs, steps = module.tqdm, []

    @contextmanager
    def bar(total: int) -> Iterator[Callable[[int], object]]:
        steps.append(f"of {total}")
        yield lambda n: steps.append(f"+{n}")

    with libraries.gguf_progress(bar):
        assert list(module.tqdm("abc", desc="Converting")) == ["a", "b", "c"]
    assert steps == ["of 3", "+1", "+1", "+1"]
    assert module.tqdm is theirs
    assert capfd.readouterr() == ("", "")


# ---- bars and spinners ----
class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_takes_the_place_of_a_spinner(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.waiting("Loading"):
        with progress.bar("Converting", 2) as advance:
            advance(1)
        with progress.bar("Hidden", 2, shown=False) as advance:
            advance(1)
    shown = terminal.getvalue()
    assert "Loading" in shown
    assert "Converting" in shown
    assert "Hidden" not in shown


def test_nothing_is_shown_where_nobody_sees_it(capfd: pytest.CaptureFixture[str]) -> None:
    with progress.waiting("Loading"), progress.bar("Converting", 2) as advance:
        advance(2)
    assert capfd.readouterr() == ("", "")


# ---- the command line ----
def test_a_command_shows_no_warning_of_another_package(tmp_path: Path) -> None:
    code = (
        "import warnings; from erase_core.cli.output import run, note\n"
        "def command():\n"
        "    warnings.warn('of a library', FutureWarning); note('of ours')\n"
        "raise SystemExit(run(command))"
    )
    by = [sys.executable, "-c", code], [sys.executable, "-W", "always", "-c", code]
    quiet, asked = (subprocess.run(each, capture_output=True, text=True, check=True, timeout=HANG) for each in by)
    assert quiet.stderr == "note: of ours\n"
    assert "of a library" in asked.stderr


@needs_packaged
@pytest.mark.slow
def test_the_conversion_of_the_packaged_model_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERASE_CORE_CACHE", str(tmp_path))
    TransformersLLM()
    assert capfd.readouterr() == ("", "")
