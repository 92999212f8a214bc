"""What is compressed and packed is found in it, and nothing is unpacked without bound."""

from __future__ import annotations

import gzip
import sys
import zipfile
from pathlib import Path

import pytest
from erase_core import scan_folder
from erase_core.scan import containers, content, searching
from scanned_folders import PACKERS, places, reasons, tarred, text_of, vectors_of, zipped

TEXT, VECTORS = text_of(1), vectors_of(1)
# At an odd offset, across the parts of 4096 bytes that tests read at a time.
INSIDE = b"." * 4077 + TEXT.encode() + b"." * 4001 + VECTORS[2].tobytes() + b"."


@pytest.fixture(params=PACKERS)
def packer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for module in (containers, content, searching):
        monkeypatch.setattr(module, "PART", 4096)
    return str(request.param)


def test_what_is_packed_is_found(packer: str, tmp_path: Path) -> None:
    pack, member = PACKERS[packer]
    (tmp_path / "packed").write_bytes(pack(INSIDE))
    report = scan_folder(tmp_path, [text_of(9), TEXT], VECTORS)
    assert f"packed > {member}" in places(report)[2]
    assert f"packed > {member}" in places(report, "vector")[3]
    assert (report.numbers("text"), report.numbers("vector"), report.unread) == ([2], [3], [])


@pytest.mark.parametrize("inner", PACKERS)
def test_what_is_packed_twice_is_found(packer: str, inner: str, tmp_path: Path) -> None:
    (pack, member), (pack_inner, member_inner) = PACKERS[packer], PACKERS[inner]
    (tmp_path / "packed").write_bytes(pack(pack_inner(INSIDE)))
    report = scan_folder(tmp_path, TEXT, VECTORS)
    assert f"packed > {member} > {member_inner}" in places(report)[1]
    assert f"packed > {member} > {member_inner}" in places(report, "vector")[3]
    assert report.complete


def test_a_damaged_file_is_searched_up_to_the_damage(packer: str, tmp_path: Path) -> None:
    pack, _ = PACKERS[packer]
    whole = pack(INSIDE + vectors_of(7, 9, 9999).tobytes())
    (tmp_path / "packed").write_bytes(whole[: len(whole) // 2])
    report = scan_folder(tmp_path, TEXT)
    if packer == "zip, stored":  # its directory is lost, but its bytes are found
        assert places(report)[1] == {"packed"}
    elif not packer.startswith(("zip", "bzip2")) or packer == "zlib":
        assert report.numbers("text") == [1]
    assert not report.complete
    assert next(iter(reasons(report))).startswith("packed")


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz"])
def test_files_that_follow_one_another_are_all_unpacked(packer: str, tmp_path: Path) -> None:
    pack, _ = PACKERS[packer]
    (tmp_path / "packed").write_bytes(pack(b"first") + pack(b"") + pack(INSIDE) + bytes(99))
    report = scan_folder(tmp_path, TEXT)
    assert report.numbers("text") == [1]
    assert report.complete


@pytest.mark.parametrize("levels", [content.DEEPEST, content.DEEPEST + 1])
def test_archives_are_unpacked_to_a_depth(levels: int, tmp_path: Path) -> None:
    packed = INSIDE
    for _ in range(levels):
        packed = gzip.compress(packed)
    (tmp_path / "packed.gz").write_bytes(packed)
    report = scan_folder(tmp_path, TEXT)
    deep = levels > content.DEEPEST
    assert report.numbers("text") == ([] if deep else [1])
    assert report.complete is not deep


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz", "zlib", "zip", "zip, bzip2"])
def test_a_bomb_is_not_unpacked(packer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes before the bound is found. The other files are searched as ever."""
    monkeypatch.setattr(containers, "FREE_BYTES", 2**21)
    monkeypatch.setattr(containers, "MOST_TIMES", 0)
    pack, _ = PACKERS[packer]
    # Incompressible, so that the text is in the first block.
    bomb = vectors_of(3, 1, 250_000).tobytes() + TEXT.encode() + bytes(2**25)
    (tmp_path / "bomb").write_bytes(pack(bomb))
    (tmp_path / "plain").write_bytes(INSIDE)
    taken: list[int] = []
    take = containers.Budget.take

    def counting(budget: containers.Budget, count: int) -> None:
        taken.append(count)
        take(budget, count)

    monkeypatch.setattr(containers.Budget, "take", counting)
    report = scan_folder(tmp_path, TEXT)
    assert "unpacks to more than" in reasons(report)["bomb"]
    assert {"plain", f"bomb > {PACKERS[packer][1]}"} <= places(report)[1]
    assert sum(taken) <= 2**21 + 2**20  # the bound, and one part


def test_a_bomb_of_many_members_counts_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "FREE_BYTES", 2**20)
    monkeypatch.setattr(containers, "MOST_TIMES", 1)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(50):
            archive.writestr(f"{number}", bytes(2**16))
    report = scan_folder(tmp_path, TEXT)
    assert list(reasons(report)) == ["bomb.zip"]


def test_an_encrypted_member_is_reported_and_others_are_searched(tmp_path: Path) -> None:
    packed = bytearray(zipped(b"no text of ours", zipfile.ZIP_STORED, "secret"))
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("secret", "x")
        archive.writestr("open", INSIDE)
    packed = bytearray((tmp_path / "packed.zip").read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(mark) + flags] |= 1  # the flag of encryption, in the first member
    (tmp_path / "packed.zip").write_bytes(packed)
    report = scan_folder(tmp_path, TEXT)
    assert "encrypted" in reasons(report)["packed.zip > secret"]
    assert places(report)[1] == {"packed.zip > open"}


def test_names_of_members_are_searched(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tarred(b"x", name=f"{TEXT[:40]}.txt")))
    report = scan_folder(tmp_path, TEXT[:40])
    assert report.found


def test_zstd_is_unpacked_if_there_is_a_package_for_it(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard", reason="needs zstandard")
    packed = zstandard.ZstdCompressor().compress(INSIDE)
    (tmp_path / "packed.zst").write_bytes(packed + packed)
    (tmp_path / "cut.zst").write_bytes(packed[: len(packed) // 2])
    report = scan_folder(tmp_path, TEXT, VECTORS)
    assert "packed.zst > unpacked" in places(report)[1]
    assert "packed.zst > unpacked" in places(report, "vector")[3]
    assert "packed.zst > unpacked" not in reasons(report)


def test_without_a_package_for_zstd_the_report_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    (tmp_path / "packed.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(99))
    report = scan_folder(tmp_path, TEXT)
    assert "pip install zstandard" in next(iter(reasons(report).values()))
    assert not report.complete
