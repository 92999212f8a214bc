"""Memory: once a row is removed, nothing of it is left in the process but what the caller holds."""

from __future__ import annotations

import subprocess
import sys

import pytest
from checkout import ROOT

PATHS = {
    "certified": "certified",
    "replayed": "replayed",
    "reseeded": "reseeded",
    "rescaled": "reseeded",  # the removed row had set the scale
    "grown": "replayed",  # its buffer had been outgrown before
    "emptied": "reseeded",
    "loaded": "replayed",
    "saved": "replayed",
    "on the panel": "replayed",
    "off the panel": "certified",
    "pushed off the panel": "certified",
    "digested": "certified",
}


@pytest.mark.skipif(sys.platform != "linux", reason="searches /proc/self/mem")
@pytest.mark.parametrize("scenario", PATHS)
def test_a_removed_row_is_nowhere_in_memory(scenario: str) -> None:
    program = ROOT / "tests/support/search_memory.py"
    result = subprocess.run([sys.executable, str(program), scenario], capture_output=True, text=True, check=True)
    path, before, after, distances, distances_after = result.stdout.split()
    assert path == PATHS[scenario]
    assert int(before) >= 1, "the search does not find a row that is there"
    assert int(after) == 0
    if "panel" not in scenario and scenario not in ("digested", "rescaled"):
        assert int(distances) >= 5, "the search does not find distances that are there"
    # Two of the numbers may be anywhere by chance.
    assert int(distances_after) <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="searches /proc/self/mem")
@pytest.mark.parametrize(("where", "copies"), [("off the panel", 1), ("on the panel", 2), ("moved", 1)])
def test_a_row_removed_from_a_shard_is_nowhere_in_memory(where: str, copies: int) -> None:
    program = ROOT / "tests/support/search_shards.py"
    result = subprocess.run([sys.executable, str(program), where], capture_output=True, text=True, check=True)
    moved, before, after = result.stdout.split()
    assert (moved == "True") == (where == "on the panel")
    assert int(before) >= copies, "the search does not find a row that is there"
    assert int(after) == 0
