"""The command line's part in a key of the user's: `--key-from`, ERASE_KEY_FROM and `erase rekey`."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import check_refused, erase, json_of
from erase_core.erase import Erase
from small_stores import ONE_PROMPT, WordEmbedder, some

FIRST, SECOND = "1f" * 32, "2e" * 32


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Two keys as `openssl rand -hex 32` writes them to files."""
    files = tmp_path / "first", tmp_path / "second"
    for file, key in zip(files, (FIRST, SECOND), strict=True):
        file.write_text(f"{key}\n")
    return files


@pytest.fixture
def store(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    """A store that needs the first key."""
    with Erase.create(tmp_path / "store", **ONE_PROMPT, embedder=WordEmbedder(), key=keys[0]) as made:
        made.ingest(some(12))
    return tmp_path / "store"


def test_a_store_with_a_key_opens_with_it_alone(
    store: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json_of("status", "--store", store, "--key-from", keys[0])["n_examples"] == 12
    check_refused(erase("status", "--store", store), 20, "can only be read with the key", "--key-from")
    check_refused(erase("status", "--store", store, "--key-from", keys[1]), 20, "another key was given")
    monkeypatch.setenv("THE_KEY", FIRST)
    assert json_of("verify", "--store", store, "--key-from", "env:THE_KEY")["ok"]
    monkeypatch.setenv("ERASE_KEY_FROM", str(keys[0]))
    assert json_of("forget", "--yes", "--id", 1, "--store", store)["n_examples"] == 11
    assert json_of("receipts", "list", "--store", store)["receipts"]


def test_rekey_changes_the_key_and_nothing_else(store: Path, keys: tuple[Path, Path]) -> None:
    before = json_of("export", store.parent / "before.jsonl", "--store", store, "--key-from", keys[0])
    changed = erase("rekey", "--store", store, "--key-from", keys[0], "--new-key-from", keys[1])
    assert (changed.exit_code, "Destroy the older one" in changed.stdout) == (0, True)
    check_refused(erase("status", "--store", store, "--key-from", keys[0]), 20, "another key was given")
    assert json_of("verify", "--store", store, "--key-from", keys[1])["ok"]
    after = json_of("export", store.parent / "after.jsonl", "--store", store, "--key-from", keys[1])
    assert after["n_examples"] == before["n_examples"]
    assert (store.parent / "after.jsonl").read_bytes() == (store.parent / "before.jsonl").read_bytes()
    assert json_of("rekey", "--store", store, "--key-from", keys[1], "--no-key")["has_key"] is False
    assert json_of("status", "--store", store)["n_examples"] == 12


def test_rekey_is_told_what_to_do(store: Path, keys: tuple[Path, Path]) -> None:
    opened = ("--store", store, "--key-from", keys[0])
    check_refused(erase("rekey", *opened), 2, "either --new-key-from or --no-key")
    check_refused(
        erase("rekey", *opened, "--no-key", "--new-key-from", keys[1]), 2, "either --new-key-from or --no-key"
    )
    check_refused(erase("rekey", *opened, "--new-key-from", "env:NOT_SET"), 2, "NOT_SET", "is not set")
    keys[1].write_text("short")
    check_refused(erase("rekey", *opened, "--new-key-from", keys[1]), 2, "at least 32 bytes", "openssl rand -hex 32")
    assert json_of("status", *opened)["n_examples"] == 12
