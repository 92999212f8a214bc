"""What the tests of embedding on an engine share, and a program that embeds on Ray.

Ray leaves objects behind in a process that has used it. So it is used in a process of its own.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from engine_laws import start_ray
from erase_core.distributed.embedding import AT_ONCE, EngineEmbedder
from erase_core.distributed.engines.protocol import Place
from erase_core.erase import Erase
from erase_core.examples.example import Example
from small_stores import CountingLLM, WordEmbedder

TEXTS = [f"parcel {i} is late" + " and broken" * (i % 7) for i in range(5 * AT_ONCE)]


def store_of(folder: Path, embedder: Any, engine: Any) -> str:
    """Return the digest of a store with examples of all texts. It must be sound."""
    with Erase.create(folder, embedder=embedder, llm=CountingLLM(), n_shots=2) as store:
        report = store.ingest([Example(i, text, "yes") for i, text in enumerate(TEXTS)], engine=engine)
        assert report.n_added == len(TEXTS)
        assert store.verify().ok
        return store.status().digest


class Deadly:
    """Goes before an engine's class: ends the host that gets the second texts, by the function `kill`."""

    kill: Callable[[Place], object]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.embeds = 0
        self._counting = Lock()

    def call(self, place: Place, method: str, *arguments: Any) -> Any:
        with self._counting:
            self.embeds += method == "embed"
            dies = method == "embed" and self.embeds == 2
        made = super().call(place, method, *arguments)  # type: ignore[misc]
        if dies:
            self.kill(place)
        return made


def check_a_death(engine: Any) -> None:
    """Embed on a deadly engine: one call was repeated, and no bit is another."""
    vectors = EngineEmbedder(WordEmbedder(), engine).embed(TEXTS)
    engine.close()
    assert vectors.tobytes() == WordEmbedder().embed(TEXTS).tobytes()
    assert engine.embeds == len(TEXTS) // AT_ONCE + 1


def main() -> None:
    """Embed on Ray, then on Ray with a worker that is killed. Print the digest of the store."""
    import ray
    from erase_core.distributed.engines.ray import RayEngine

    class Engine(Deadly, RayEngine):
        pass

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    start_ray()
    with tempfile.TemporaryDirectory() as folder:
        digest = store_of(Path(folder) / "store", WordEmbedder(), "ray")
    engine = Engine()
    engine.kill = lambda place: ray.kill(place.handle)
    check_a_death(engine)
    ray.shutdown()
    print(json.dumps(digest))


if __name__ == "__main__":
    main()
