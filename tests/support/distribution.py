"""What is in a wheel or a source distribution, held against the checkout: nothing is missing, and nothing is too many.

    python tests/support/distribution.py [--version VERSION] dist/*

prints what is wrong with the files, and fails if anything is. It needs nothing but Python and git.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION: str = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
CORE = re.compile(r"erase_core/_core\.(abi3\.so|pyd)")
RECORDS = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
# Of the checkout, a source distribution has what a build needs, and the tests of the crates.
TOP = ("Cargo.lock", "Cargo.toml", "LICENSE", "README.md", "pyproject.toml")


def tracked(*folders: str) -> set[str]:
    """The files of the checkout that git knows."""
    listed = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, check=True, text=True)
    return {name for name in listed.stdout.split("\0") if name}


def files_of(archive: Path) -> dict[str, bytes]:
    """The files in an archive, by name; of a source distribution, without its top folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    with tarfile.open(archive) as source:
        opened = {member.name: source.extractfile(member) for member in source if member.isfile()}
        return {name.partition("/")[2]: file.read() for name, file in opened.items() if file is not None}


def differences(found: Iterable[str], wanted: Iterable[str]) -> Iterator[str]:
    found, wanted = set(found), set(wanted)
    yield from (f"{name} is missing" for name in sorted(wanted - found))
    yield from (f"{name} does not belong here" for name in sorted(found - wanted))


def wheel_problems(files: Mapping[str, bytes], name: str) -> Iterator[str]:
    """What is wrong with a wheel's files, given its file name."""
    records = f"erase_core-{VERSION}.dist-info"
    ours = {file.removeprefix("python/") for file in tracked("python/erase_core")}
    core = {file for file in files if CORE.fullmatch(file)}
    if len(core) != 1:
        yield f"there must be one compiled core, found {sorted(core)}"
    yield from differences(files.keys() - core, {*ours, *(f"{records}/{file}" for file in RECORDS)})
    for file in sorted(ours & files.keys()):
        if files[file] != (ROOT / "python" / file).read_bytes():
            yield f"{file} is not that of the checkout"
    for needed in ("erase_core/py.typed", "erase_core/_core.pyi"):
        if needed not in files:
            yield f"{needed} is missing"
    least = PROJECT["requires-python"].removeprefix(">=")
    tag = f"cp{least.replace('.', '')}-abi3-"
    if f"-{tag}" not in name or f"Tag: {tag}".encode() not in files.get(f"{records}/WHEEL", b""):
        yield f"it must be for Python {least} and later ({tag}*), but its name is {name}"
    yield from metadata_problems(files.get(f"{records}/METADATA", b""))


def metadata_problems(content: bytes) -> Iterator[str]:
    """What of pyproject.toml is not in the metadata."""
    metadata: Message = BytesParser().parsebytes(content)
    one = {
        "Name": PROJECT["name"],
        "Version": VERSION,
        "Summary": PROJECT["description"],
        "Requires-Python": PROJECT["requires-python"],
        "License-Expression": PROJECT["license"],
        "Keywords": ",".join(PROJECT["keywords"]),
    }
    for field, wanted in one.items():
        if metadata[field] != wanted:
            yield f"{field} is {metadata[field]!r}, not {wanted!r}"
    several = {
        "Classifier": PROJECT["classifiers"],
        "Provides-Extra": PROJECT["optional-dependencies"],
        "Project-URL": [f"{label}, {url}" for label, url in PROJECT["urls"].items()],
    }
    for field, wanted in several.items():
        yield from (f"{field}: {problem}" for problem in differences(metadata.get_all(field, []), wanted))


def source_problems(files: Mapping[str, bytes]) -> Iterator[str]:
    """What is wrong with the files of a source distribution."""
    yield from differences(files, {"PKG-INFO", *TOP, *tracked("python", "rust")})
    yield from metadata_problems(files.get("PKG-INFO", b""))


def places_of_this_machine(files: Mapping[str, bytes]) -> Iterator[str]:
    """Names of files that have the path of the checkout, or of the folder in which cargo keeps sources."""
    cargo = os.environ.get("CARGO_HOME") or Path.home() / ".cargo"
    for name, content in sorted(files.items()):
        for place in (ROOT, Path(cargo)):
            if any(form in content for form in (str(place).encode(), place.as_posix().encode())):
                yield f"{name} has the path {place}"


def problems(archive: Path) -> list[str]:
    """All that is wrong with a distribution, apart from places of this machine."""
    files = files_of(archive)
    return list(wheel_problems(files, archive.name) if archive.suffix == ".whl" else source_problems(files))


def main() -> int:
    parser = argparse.ArgumentParser(description="Check wheels and source distributions.")
    parser.add_argument("--version", default=VERSION, help="the version that they must have")
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    failed = given.version != VERSION
    if failed:
        print(f"the version of Cargo.toml is {VERSION}, not {given.version}")
    for archive in given.files:
        found = [*problems(archive), *places_of_this_machine(files_of(archive))]
        print(f"{archive.name}: {'is right' if not found else 'is wrong'}", *found, sep="\n    ")
        failed |= bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
