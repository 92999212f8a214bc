"""The key that the caller keeps: where it is read from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from erase_core.errors import ParameterError
from erase_core.store.user_key import user_key
from small_stores import refused

TEXT = b"0123456789abcdef" * 4


def test_a_key_is_the_same_from_wherever_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_bytes(TEXT + b"\n")
    monkeypatch.setenv("STORE_KEY", TEXT.decode())
    keys = {
        user_key("key", source) for source in (TEXT, TEXT + b"\r\n", file, str(file), "env:STORE_KEY", lambda: TEXT)
    }
    assert len(keys) == 1
    assert user_key("key", TEXT[1:]) not in keys
    assert user_key("key", None) is None


@pytest.mark.parametrize("last", [b"\n", b"\r", b"\r\n"])
def test_random_bytes_may_end_with_a_line_break(last: bytes) -> None:
    key = TEXT[: 32 - len(last)] + last
    assert user_key("key", key) == user_key("key", lambda: key)
    assert user_key("key", key) != user_key("key", TEXT[:32])
    refused(lambda: user_key("key", key[1:]), ParameterError, "at least 32 bytes")
