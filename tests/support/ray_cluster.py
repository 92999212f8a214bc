"""A Ray cluster on this machine for tests, whose processes have ended when it is closed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """Start Ray, and yield the module; skip the test if it is not installed."""
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
        object_store_memory=80 * 1024**2,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    )
    started = ray._private.worker._global_node.all_processes.values()
    processes = [info.process for infos in started for info in infos]
    try:
        yield ray
    finally:
        ray.shutdown()
        for process in processes:  # Ray does not wait for them
            process.wait(timeout=30)
