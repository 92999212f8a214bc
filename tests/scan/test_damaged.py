"""A damaged file of any kind ends no scan: what is next to it is found."""

from __future__ import annotations

import gzip
import io
import random
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from erase_core import scan_folder
from scanned_folders import PACKERS, table, text_of, vectors_of

TEXT = text_of(1)
TIMES = 25


def made(folder: Path) -> dict[str, bytes]:
    """A small file of each kind."""
    inside = text_of(3, 50).encode() + vectors_of(3).tobytes()
    kinds = {name: pack(inside) for name, (pack, _) in PACKERS.items()}
    file = io.BytesIO()
    np.save(file, np.array([text_of(2)] * 9))
    kinds["npy"] = file.getvalue()
    with closing(sqlite3.connect(folder / "db")) as opened, opened:
        opened.execute("PRAGMA journal_mode = WAL")
        opened.execute("CREATE TABLE t (a)")
        opened.executemany("INSERT INTO t VALUES (?)", [(text_of(i, 99),) for i in range(9)])
        opened.commit()
        kinds["sqlite"], kinds["log"] = (folder / "db").read_bytes(), (folder / "db-wal").read_bytes()
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return kinds
    for name in ("parquet", "arrow", "stream"):
        file, whole = io.BytesIO(), table()
        if name == "parquet":
            pq.write_table(whole, file)
        else:
            with (pa.ipc.new_file if name == "arrow" else pa.ipc.new_stream)(file, whole.schema) as writer:
                writer.write_table(whole)
        kinds[name] = file.getvalue()
    return kinds


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut off, or with some bytes replaced."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 30))):
        changed[rng.randrange(len(changed))] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.3 else changed)


@pytest.mark.parametrize("seed", range(TIMES))
def test_damage_ends_no_scan(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    (tmp_path / "made").mkdir()
    folder = tmp_path / "folder"
    folder.mkdir()
    kinds = made(tmp_path / "made")
    for name, content in kinds.items():
        if name != "log":
            (folder / name).write_bytes(damaged(content, rng))
            (folder / f"{name}.gz").write_bytes(gzip.compress(damaged(content, rng)))
    (folder / "whole.db").write_bytes(kinds["sqlite"])
    (folder / "whole.db-wal").write_bytes(damaged(kinds["log"], rng))
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr("last", TEXT)
    report = scan_folder(folder, TEXT, vectors_of(9))
    assert {finding.place for finding in report.findings if finding.whole} >= {"z.zip > last"}
    assert report.numbers("vector") == []
