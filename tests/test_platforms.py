"""Systems that lack what a store needs (Windows): all else works, and a store is one clear error that changes nothing.

Such a system is imitated: Python runs without the module and the calls that Windows does not have.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from erase_core import Erase, checks
from erase_core.fs import durable, system
from processes import run
from small_stores import WordEmbedder, some

# Taken away before anything else is imported.
WINDOWS = f"""
import os, platform, sys
sys.modules[{system.MODULE!r}] = None
for name in {system.CALLS!r}:
    delattr(os, name)
platform.system = lambda: "Windows"
"""
COMMAND = f"{WINDOWS}sys.argv[0] = 'erase'\nfrom erase_core.cli.app import main\nmain()"


def prints(program: str, *arguments: str | Path) -> str:
    """What the program prints on the imitated system."""
    done = run(WINDOWS + program, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_clustering_is_the_same() -> None:
    program = """
import erase_core, numpy as np
rows = np.random.default_rng(0).normal(size=(200, 4))
model = erase_core.QKMeans(4, max_norm=8.0, random_state=0).fit(rows)
model.remove(17)
print(model.digest())
"""
    assert prints(program) == run(program).stdout.strip() != ""


CALLS = [
    "erase_core.Erase.create(folder)",
    "erase_core.Erase.open(folder)",
    "erase_core.scan_folder(folder, ['Ann Smith'])",
]


@pytest.mark.parametrize("call", CALLS)
def test_a_store_and_a_scan_are_one_error(call: str, tmp_path: Path) -> None:
    program = f"""
import erase_core
folder = sys.argv[1]
try:
    {call}
except erase_core.PlatformError as error:
    print(error)
"""
    said = prints(program, tmp_path)
    assert not [word for word in ("Windows", system.MODULE, *system.CALLS, "WSL") if word not in said], said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["init"], ["status"], ["demo"], ["scan", "--absent", "Ann Smith", "."]])
def test_commands_end_with_the_code_of_this_error(arguments: list[str], tmp_path: Path) -> None:
    store = [] if arguments[0] in ("demo", "scan") else ["--store", str(tmp_path / "store")]
    done = run(COMMAND, *arguments, *store)
    assert (done.returncode, done.stdout) == (21, ""), done.stderr
    assert "Windows" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_receipts_can_be_checked(path: Path, tmp_path: Path) -> None:
    """So that an auditor may use any system."""
    with Erase.create(path, receipts=tmp_path / "receipts", embedder=WordEmbedder()) as store:
        store.ingest(some(5))
        store.forget(3)
    done = run(COMMAND, "receipts", "verify", "--folder", tmp_path / "receipts")
    assert done.returncode == 0, done.stderr


def test_this_system_has_all_that_a_store_needs() -> None:
    assert system.missing() == []
    checks.supported("a store")


# ---- macOS ----
FULL = 51


@pytest.mark.parametrize("works", [True, False])
def test_where_fsync_stops_at_the_disks_memory_the_whole_way_is_asked_for(
    works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And plain fsync is used if the file system refuses."""
    asked: list[str] = []

    def control(descriptor: int, command: int) -> int:
        assert command == FULL
        asked.append("full")
        if not works:
            raise OSError(45, "not supported")
        return 0

    def sync(descriptor: int) -> None:
        asked.append("fsync")

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", sync)
    durable.write_new(tmp_path / "file", b"content")
    # Once for the contents, once for the name.
    assert asked == (["full"] * 2 if works else ["full", "fsync"] * 2)
