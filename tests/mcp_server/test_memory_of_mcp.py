"""Memory: after a removal, nothing that the process `erase mcp` holds has texts or ids of the examples.

What is freed is overwritten by the allocator, as in tests/reliability/test_memory.py. The buffer of standard output
keeps the end of an earlier answer, until a longer one overwrites it. So longer ones are asked for before the search.
"""

from __future__ import annotations

import random
import string
import sys
from collections import Counter
from pathlib import Path

import pytest
from command_line import shell
from erase_core.examples.example import Example
from mcp_client import Raw
from process_memory import places, regions
from small_stores import create

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="searches /proc/*/mem")

OVERWRITING = {"PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "165", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
# Lengths of questions. An answer has the question four times, and one of them almost fills the buffer of 8192 bytes. An
# answer that is longer than the buffer is written past it.
LENGTHS = range(400, 2000, 100)


@pytest.fixture
def rows(path: Path) -> dict[str, dict[str, str]]:
    """Random texts by their ids, which nothing in this file has as a whole, and a store of them."""
    draws = random.Random(0)
    fields = ("id", "input", "output", "subject")
    rows = [{name: "".join(draws.choices(string.ascii_letters, k=40)) for name in fields} for _ in range(30)]
    create(path, [Example(**row) for row in rows], llm=None).close()
    return {row["id"]: row for row in rows}


def found(raw: Raw, rows: list[dict[str, str]]) -> Counter[str]:
    """How often the middle of each text of some examples lies in the process's memory."""
    counts: Counter[str] = Counter()
    for region in regions(raw.process.pid):
        for row in rows:
            for name, text in row.items():
                counts[name] += len(places(region, text[8:32].encode()))
    return +counts


@pytest.mark.parametrize("by", ["the server", "another process"])
def test_no_memory_of_the_server_holds_what_was_forgotten(path: Path, rows: dict[str, dict[str, str]], by: str) -> None:
    with Raw("--store", path, "--allow-forget", environment=OVERWRITING) as raw:
        raw.call("prompt", query="where is my parcel")
        going = raw.call("demonstrations", query="where is my parcel")["demonstrations"]
        gone = [rows[each["id"]] for each in going]
        before = found(raw, gone)
        ids = [row["id"] for row in gone]
        if by == "the server":
            raw.call("forget", ids=ids)
        else:
            assert shell("forget", *(part for id_ in ids for part in ("--id", id_)), "--yes", "--store", path).stdout
        for length in LENGTHS:
            raw.call("prompt", query="x" * length)
        after = found(raw, gone)
    assert set(before) == {"id", "input", "output"}
    assert after == Counter()
