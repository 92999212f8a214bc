"""What is in columns and tables is found, whatever their files do with it."""

from __future__ import annotations

import io
import random
import sqlite3
import sys
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from erase_core import scan_folder
from scanned_folders import DIM, ROW_TEXTS, ROW_VECTORS, places, reasons, state_of, table, text_of, vectors_of

TEXTS, VECTORS = ROW_TEXTS, ROW_VECTORS
GONE = TEXTS[7]


# ---- NumPy ----
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "C order": VECTORS,
    "Fortran order": np.asfortranarray(VECTORS),
    "float64": VECTORS.astype(np.float64),
    "float64, Fortran order": np.asfortranarray(VECTORS.astype(np.float64)),
    "float16": VECTORS.astype(np.float16),
    "big-endian float64": VECTORS.astype(">f8"),
    "long double": VECTORS.astype(np.longdouble),
    "three dimensions": np.asfortranarray(VECTORS.reshape(5, 6, DIM)),
    "a field": np.array([(1, row) for row in VECTORS], dtype=[("id", "i8"), ("vector", "f4", (DIM,))]),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("packed", [False, True])
def test_vectors_of_numpy_files_are_found(kind: str, packed: bool, tmp_path: Path) -> None:
    if packed:
        np.savez_compressed(tmp_path / "a.npz", vectors=ARRAYS[kind])
    else:
        np.save(tmp_path / "a.npy", ARRAYS[kind])
    report = scan_folder(tmp_path, vectors=[vectors_of(5)[0], *VECTORS[[4, 29]]])
    assert set(places(report, "vector")) == {2, 3}
    assert report.complete


def test_texts_of_numpy_files_are_found(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(TEXTS))
    assert places(scan_folder(tmp_path, ["not in it", GONE])) == {2: {"a.npy"}}


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    """They are searched as raw bytes, and the report says so."""

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return (Path.touch, (tmp_path.parent / "sprung",))

    np.save(tmp_path / "a.npy", np.array([Trap(), GONE], dtype=object), allow_pickle=True)
    report = scan_folder(tmp_path, GONE)
    assert report.numbers("text") == [1]
    assert "pickled" in reasons(report)["a.npy"]
    assert not (tmp_path.parent / "sprung").exists()


@pytest.mark.parametrize(
    "content", [b"\x93NUMPY", b"\x93NUMPY\x01\x00\x06\x00nonsen", b"\x93NUMPY\x09\x09" + bytes(99)]
)
def test_a_damaged_array_is_reported(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    assert "damaged" in reasons(scan_folder(tmp_path, GONE))["a.npy"]


# ---- Parquet and Arrow ----
def check_columns(report: Any, place: str) -> None:
    """What `table` has at row 7 is found in each column."""
    assert places(report)[1] >= {f"{place} (column {name})" for name in ("text", "nested", "bytes", "null")}
    assert places(report)[2] >= {f"{place} (column class)"}
    assert places(report, "vector")[1] >= {f"{place} (column {name})" for name in ("fixed", "list")}
    assert (report.numbers("text"), report.numbers("vector"), report.unread) == ([1, 2], [1], [])


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd"])
@pytest.mark.parametrize("packed", [False, True])
def test_columns_of_parquet_are_found(compression: str, packed: bool, tmp_path: Path) -> None:
    whole = table()
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(whole, file, compression=compression, row_group_size=11)
    write(file.getvalue(), "t.parquet", packed, tmp_path)
    report = scan_folder(tmp_path, [GONE, GONE[::-1], "not in it"], [VECTORS[7], vectors_of(9)[0]])
    check_columns(report, "all.zip > t.parquet" if packed else "t.parquet")


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("packed", [False, True])
def test_columns_of_arrow_are_found(compression: str, kind: str, packed: bool, tmp_path: Path) -> None:
    whole = table()
    import pyarrow as pa

    file = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "uncompressed" else compression)
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(file, whole.schema, options=options) as writer:
        writer.write_table(whole, max_chunksize=11)
    write(file.getvalue(), "t.arrow", packed, tmp_path)
    report = scan_folder(tmp_path, [GONE, GONE[::-1], "not in it"], [VECTORS[7], vectors_of(9)[0]])
    places_ = [finding.place for finding in report.findings]
    assert report.complete
    check_columns_of = "all.zip > t.arrow" if packed else "t.arrow"
    assert {f"{check_columns_of} (column {name})" for name in ("text", "fixed", "list", "class")} <= set(places_)
    assert (report.numbers("text"), report.numbers("vector")) == ([1, 2], [1])


def write(content: bytes, name: str, packed: bool, folder: Path) -> None:
    if packed:
        with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
    else:
        (folder / name).write_bytes(content)


def test_damaged_tables_are_reported(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    rng = random.Random(1)
    for name, head in {"a.parquet": b"PAR1", "b.arrow": b"ARROW1\0\0"}.items():
        (tmp_path / name).write_bytes(head + rng.randbytes(999) + head)
    assert set(reasons(scan_folder(tmp_path, GONE))) == {"a.parquet", "b.arrow"}


def test_without_pyarrow_the_report_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(99))
    assert "pip install pyarrow" in reasons(scan_folder(tmp_path, GONE))["a.parquet"]


# ---- SQLite ----
LONG = " ".join(text_of(number, 600) for number in (100, 101))


def database(file: Path, mode: str = "DELETE") -> sqlite3.Connection:
    """A file with a table for a long text, which SQLite splits, and a blob. It has odd names and a computed column."""
    opened = sqlite3.connect(file, isolation_level=None)
    opened.execute(f"PRAGMA journal_mode = {mode}")
    opened.execute("PRAGMA wal_autocheckpoint = 0")
    opened.execute('CREATE TABLE "odd ""name" (id, text, "the blob" BLOB, twice AS (text || text))')
    return opened


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_values_of_sqlite_are_found_whole(packed: bool, encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "a.db"
    vector = vectors_of(4, 1, 3000)[0]
    with closing(sqlite3.connect(file)) as made, made:
        made.execute(f"PRAGMA encoding = '{encoding}'")
        made.execute('CREATE TABLE "odd ""name" (text, "the blob" BLOB, twice AS (text || text))')
        made.execute('INSERT INTO "odd ""name" VALUES (?, ?)', (LONG, vector.tobytes()))
    made.close()
    if packed:
        write(file.read_bytes(), "a.db", True, tmp_path)
        file.unlink()
    report = scan_folder(tmp_path, [LONG, "not in it"], vector)
    place = "all.zip > a.db" if packed else "a.db"
    assert f'{place} (odd "name.text)' in places(report)[1]
    assert f'{place} (odd "name.the blob)' in places(report, "vector")[1]
    assert report.complete


def test_a_log_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    """What only the log has, what it has changed, and what an open transaction has not committed."""
    file = tmp_path / "a.db"
    with closing(database(file, "WAL")) as made:
        made.execute('INSERT INTO "odd ""name" VALUES (1, ?, NULL)', (LONG,))
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        made.execute('INSERT INTO "odd ""name" VALUES (2, ?, NULL)', (LONG[::-1],))
        made.execute('UPDATE "odd ""name" SET text = ? WHERE id = 1', (LONG.upper(),))
        before = state_of(tmp_path)
        report = scan_folder(tmp_path, [LONG, LONG[::-1], LONG.upper(), "not in it"])
        assert state_of(tmp_path) == before
    found = places(report)
    assert found[1] == {'a.db (odd "name.text)'}
    assert found[2] == found[3] == {'a.db with its log (odd "name.text)'}
    assert 4 not in found
    assert report.complete


def test_a_file_in_log_mode_without_a_log_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    with closing(database(tmp_path / "a.db", "WAL")) as made:
        made.execute('INSERT INTO "odd ""name" VALUES (1, ?, NULL)', (LONG,))
    before = state_of(tmp_path)
    assert set(before) == {"a.db"}
    assert 'a.db (odd "name.text)' in places(scan_folder(tmp_path, LONG))[1]
    assert state_of(tmp_path) == before


def test_free_pages_are_searched(tmp_path: Path) -> None:
    """Deleted rows are found, until SQLite overwrites them."""
    file = tmp_path / "a.db"
    with closing(database(file)) as made:
        made.execute("PRAGMA secure_delete = OFF")
        made.executemany('INSERT INTO "odd ""name" VALUES (?, ?, ?)', [(i, t, VECTORS[i].tobytes()) for i, t in rows()])
        made.execute('DELETE FROM "odd ""name"')
        report = scan_folder(tmp_path, [LONG, GONE], VECTORS)
        content = file.read_bytes()
        there = {number for number, text in enumerate([LONG, GONE], 1) if text.encode() in content}
        assert set(report.numbers("text")) >= there == {2}
        assert len(report.numbers("vector")) == 30
        made.execute("VACUUM")
        assert not scan_folder(tmp_path, [LONG, GONE], VECTORS).found


def rows() -> list[tuple[int, str]]:
    return list(enumerate(TEXTS))


def test_values_that_look_compressed_are_reported(tmp_path: Path) -> None:
    """Ids of random bytes do not."""
    with closing(database(tmp_path / "a.db")) as made:
        values = [(random.Random(i).randbytes(16), GONE, zlib.compress(text_of(i, 40).encode())) for i in range(99)]
        made.executemany('INSERT INTO "odd ""name" VALUES (?, ?, ?)', values)
    report = scan_folder(tmp_path, "not in it")
    assert set(reasons(report)) == {'a.db (odd "name.the blob)'}


def test_a_damaged_database_is_reported_and_searched_as_bytes(tmp_path: Path) -> None:
    with closing(database(tmp_path / "a.db")) as made:
        made.executemany('INSERT INTO "odd ""name" VALUES (?, ?, NULL)', rows())
    content = bytearray((tmp_path / "a.db").read_bytes())
    content[4096:4200] = b"\xee" * 104
    (tmp_path / "a.db").write_bytes(content)
    (tmp_path / "b.db").write_bytes(content[:3000])
    report = scan_folder(tmp_path, GONE)
    assert places(report)[1] == {"a.db"}
    assert {place.partition(" ")[0] for place in reasons(report)} == {"a.db", "b.db"}
