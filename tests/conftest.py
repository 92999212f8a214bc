"""How the suite is run: its options, the hypothesis profiles `fast` and `slow` (with --slow), and shared fixtures."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from erase_core.llm import TransformersLLM
from hypothesis import HealthCheck, settings
from small_models import make_model
from small_stores import Elsewhere, new_path

# Nothing is fetched from a model hub; without this a name that is only on the hub is tried for minutes.
os.environ["HF_HUB_OFFLINE"] = "1"
# Haystack would report its use.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
# LiteLLM would fetch its list of prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
# Several processes run tests (`make test`): each with all the processor's threads would keep the others waiting.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A fast run is the same on every machine and every day; a slow run looks for what no run has seen.
settings.register_profile("fast", max_examples=30, deadline=None, derandomize=True)
settings.register_profile(
    "slow", max_examples=3000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# For wings in which an example takes a model or a store: a tenth of a second, not a thousandth.
settings.register_profile("slow_dear", settings.get_profile("slow"), max_examples=300)
DEAR = {"embedding", "erasure", "llm", "receipts", "store", "tests"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too, and far more hypothesis examples")
    parser.addoption(
        "--count-warnings", action="store_true", help="count and print other packages' warnings: they are no errors"
    )


def pytest_configure(config: pytest.Config) -> None:
    # erase_core.libraries hides warnings of other packages unless the user asks for them: as pyproject.toml does here.
    # Processes that a test starts are given this too.
    sys.warnoptions.append("default")
    if config.getoption("--count-warnings"):
        for category in ("DeprecationWarning", "FutureWarning", "PendingDeprecationWarning", "UserWarning"):
            config.addinivalue_line("filterwarnings", f"default::{category}")
        for ours in ("OldCopyWarning", "ScrubWarning"):
            config.addinivalue_line("filterwarnings", f"error::erase_core.{ours}")
    settings.load_profile("slow" if config.getoption("--slow") else "fast")
    # Bars and spinners are shown on any terminal but a dumb one.
    os.environ["TERM"] = "xterm"
    # A shell starts what runs in the background with Ctrl-C ignored, and processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collectstart(collector: pytest.Collector) -> None:
    # A test takes the profile that is loaded when its file is imported.
    if isinstance(collector, pytest.Module) and collector.config.getoption("--slow"):
        settings.load_profile("slow_dear" if collector.path.parent.name in DEAR else "slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The longest first: at the end, one process would run them and the others wait.
    items.sort(key=lambda item: "test_code_runs" not in item.name)
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="needs --slow"))


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a store can be made."""
    with new_path() as path:
        yield path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of small language models, by kind."""
    return functools.cache(lambda kind: make_model(tmp_path_factory.mktemp("models") / kind, kind))


@pytest.fixture(scope="module")
def small(folders: Callable[[str], Path]) -> TransformersLLM:
    """A small language model."""
    return TransformersLLM(folders("llama"))


@pytest.fixture(scope="module")
def other() -> Iterator[Elsewhere]:
    """Another process that opens stores."""
    other = Elsewhere()
    yield other
    other.end()
