"""The wheel as users get it: its content, and what works in a clean environment with it alone and with each extra.

Nothing of the checkout is on the path there. With the extras, the code of the README runs there too (`--slow`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import distribution
import pytest
from checkout import ROOT
from distribution import PROJECT
from erase_core.fs.locks import exclusive
from processes import HANG

UV = Path(sys.executable).with_name("uv")
pytestmark = pytest.mark.skipif(not UV.is_file(), reason="needs uv")

EXTRAS = sorted(PROJECT["optional-dependencies"])
CONSTRAINTS: list[str | Path] = [
    "--constraint",
    ROOT / "constraints/runtime.txt",
    "--build-constraint",
    ROOT / "constraints/tools.txt",
]
# What the README has installed besides the extra.
PACKAGED = re.findall(r"--no-deps (\S+)", (ROOT / "README.md").read_text())
MISSING = 12
# For each extra, the part of the package that needs it, and a use of it that ends by itself.
USES = {
    "llm": ("embedding", "erase_core.SentenceEmbedder().embed(['a text'])"),
    "openai": ("llm", "OpenAILLM('model', base_url='http://127.0.0.1:9/v1', api_key='')"),
    "parquet": ("examples", "read_parquet()"),
    "serve": ("server", "command('serve', '--store', 'nowhere')"),
    "mcp": ("mcp_server", "command('mcp', '--store', 'nowhere')"),
    "dspy": ("integrations", "import erase_core.integrations.dspy"),
    "haystack": ("integrations", "import erase_core.integrations.haystack"),
    "langchain": ("integrations", "import erase_core.integrations.langchain"),
    "litellm": ("integrations", "import erase_core.integrations.litellm"),
    "lm-eval": ("integrations", "import erase_core.integrations.lm_eval"),
    "evaluate": ("evaluate", "command('evaluate', '--list')"),
    "dask": ("distributed", "engine('dask://127.0.0.1:9')"),
    "ray": ("distributed", "engine('ray://127.0.0.1:9')"),
}
# Extras that are installed together with another one.
TOGETHER = {"evaluate": "llm,evaluate"}
PROGRAM = """
import pathlib, sys
import erase_core
from erase_core.examples.reading import read_examples
from erase_core.llm import OpenAILLM

def command(*words):
    sys.argv = ["erase", *words]
    from erase_core.cli.app import main
    main()

def read_parquet():
    pathlib.Path("some.parquet").write_bytes(b"PAR1 and nothing else")
    try:
        read_examples("some.parquet")
    except erase_core.SourceError:
        pass

def engine(name):
    from erase_core.distributed.engines.choosing import connected
    try:
        with connected(name):
            pass
    except erase_core.errors.WorkerLostError:
        pass

try:
    {use}
except erase_core.MissingPackageError as error:
    print("error:", error, file=sys.stderr)
    raise SystemExit({missing})
"""


class Environment:
    """A virtual environment with the wheel.

    Parameters
    ----------
    folder : Path
        The environment, and a folder `home` in which programs run.
    wheel : Path
    extra : str or None
        None: the wheel alone.
    """

    def __init__(self, folder: Path, wheel: Path, extra: str | None = None) -> None:
        self.folder, self.home = folder, folder / "home"
        self.python, self.command = folder / "bin" / "python", folder / "bin" / "erase"
        run(UV, "venv", "--quiet", "--python", sys.executable, folder)
        self.home.mkdir()
        self.install(f"{wheel}[{extra}]" if extra else wheel)

    def install(self, *wanted: str | Path) -> None:
        run(UV, "pip", "install", "--quiet", "--python", self.python, *CONSTRAINTS, *wanted)

    def run(self, *command: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return run(*command, cwd=self.home, code=code, PATH=path)

    def packages(self) -> set[str]:
        listed = run(UV, "pip", "list", "--quiet", "--python", self.python, "--format", "json")
        return {package["name"] for package in json.loads(listed.stdout)}


def run(
    *command: str | Path, cwd: Path = ROOT, code: int | None = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command that knows nothing of the environment of the tests, and ends with the exit code, if one is given."""
    ours = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONWARNINGS"}
    environment = {name: value for name, value in os.environ.items() if name not in ours} | variables
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG,
        stdin=subprocess.DEVNULL,
    )
    assert code is None or done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Fill a folder once, whichever of the processes that run tests comes first."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def filled(name: str, fill: Callable[[Path], object]) -> Path:
        folder = shared / name
        with exclusive(shared, HANG):
            if not folder.exists():
                unfinished = folder.with_name(f"{name}.unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                fill(unfinished)
                unfinished.rename(folder)
        return folder

    return filled


@pytest.fixture(scope="session")
def built(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with the wheel and the source distribution."""
    build: list[str | Path] = [
        UV,
        "build",
        "--quiet",
        "--wheel",
        "--sdist",
        "--build-constraint",
        ROOT / "constraints/tools.txt",
    ]
    return once("distributions", lambda folder: run(*build, "--out-dir", folder, ROOT))


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="session")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and no extra."""
    return Environment(tmp_path_factory.mktemp("alone") / "environment", wheel)


# ---- content ----
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_all_that_belongs_to_a_distribution_is_in_it_and_nothing_else(built: Path, kind: str) -> None:
    (archive,) = built.glob(kind)
    assert distribution.problems(archive) == []
    # The wheel of `make wheel` has none in the core either.
    files = {name: content for name, content in distribution.files_of(archive).items() if "_core." not in name}
    assert list(distribution.places_of_this_machine(files)) == []


@pytest.mark.slow
def test_the_source_distribution_builds_the_same_wheel(built: Path, wheel: Path, tmp_path: Path) -> None:
    """Without anything of the checkout. The core is compiled in another folder, whose path it has."""
    (source,) = built.glob("*.tar.gz")
    build: list[str | Path] = [UV, "build", "--quiet", "--wheel", *CONSTRAINTS[2:], "--out-dir", tmp_path / "dist"]
    run(*build, source, cwd=tmp_path, CARGO_TARGET_DIR=str(tmp_path / "target"))
    (other,) = (tmp_path / "dist").glob("*.whl")
    assert other.name == wheel.name
    assert distribution.problems(other) == []


CHANGES: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "a file is missing": ("erase_core/py.typed", lambda content: None),
    "a module is another": ("erase_core/erase.py", lambda content: content + b"\n"),
    "no core": ("erase_core/_core.abi3.so", lambda content: None),
    "a test": ("tests/test_erase.py", lambda content: b""),
    "another Python": ("{}/WHEEL", lambda content: content.replace(b"cp311", b"cp310")),
    "no keywords": ("{}/METADATA", lambda content: content.replace(b"Keywords:", b"Words:")),
}


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=CHANGES)
def test_a_wheel_that_is_wrong_is_found(
    wheel: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes | None]
) -> None:
    files = distribution.files_of(wheel)
    records = next(file.partition("/")[0] for file in files if file.endswith("/WHEEL"))
    name = name.format(records)
    changed = change(files.pop(name, b""))
    with zipfile.ZipFile(tmp_path / wheel.name, "w") as archive:
        for file, content in (files if changed is None else files | {name: changed}).items():
            archive.writestr(file, content)
    assert distribution.problems(tmp_path / wheel.name) != []


def test_a_path_of_this_machine_is_found() -> None:
    files = {"a": b"nothing", "b": f"compiled in {ROOT}/rust".encode()}
    assert list(distribution.places_of_this_machine(files)) == [f"b has the path {ROOT}"]


def test_every_python_of_the_workflow_is_a_classifier() -> None:
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    (listed,) = re.findall(r"^ +python: \[(.+)\]$", workflow, re.MULTILINE)
    classifiers = {f"Programming Language :: Python :: {version}" for version in re.findall(r"[\d.]+", listed)}
    assert {each for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)} == classifiers


# ---- the wheel alone ----
def test_it_works_alone(alone: Environment) -> None:
    """Clustering, and a store with an embedder of the user's own: created, forgotten in, verified, opened again."""
    done = alone.run(alone.python, "-W", "error", ROOT / "tests/support/first_use.py")
    assert f"erase-core {distribution.VERSION} works" in done.stdout


def test_it_brings_nothing_of_an_extra(alone: Environment) -> None:
    needed = {
        re.split(r"[^\w-]", package)[0] for names in PROJECT["optional-dependencies"].values() for package in names
    }
    assert needed
    assert alone.packages() & needed == {"scipy"}  # scikit-learn brings it
    assert alone.packages() > {re.split(r"[^\w-]", package)[0] for package in PROJECT["dependencies"]}


HELP = """
import typer
from erase_core.cli.app import app
from typer.testing import CliRunner

def walk(command, names):
    yield names
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, (*names, name))

for names in walk(typer.main.get_command(app), ()):
    result = CliRunner().invoke(app, [*names, "--help"])
    assert result.exit_code == 0, (names, result.output)
    assert result.output.startswith(f"Usage:"), (names, result.output)
    print(*names)
"""


def test_every_command_has_help(alone: Environment) -> None:
    helped = alone.run(alone.python, "-c", HELP).stdout.splitlines()
    assert {"", "init", "forget", "receipts", "receipts verify"} <= set(helped)


def test_the_command_is_on_the_path(alone: Environment) -> None:
    assert alone.run("erase", "--version").stdout.split() == ["erase-core", distribution.VERSION]
    assert "verify" in alone.run("erase", "receipts", "--help").stdout
    assert "nowhere" in alone.run("erase", "status", "--store", "nowhere", code=5).stderr


# ---- extras ----
def program(extra: str) -> str:
    """A program that uses an extra, and ends with the code `MISSING` if that is not installed."""
    part, use = USES[extra]
    if not (ROOT / "python/erase_core" / part).exists() and not (ROOT / f"python/erase_core/{part}.py").exists():
        pytest.skip(f"there is no erase_core.{part}")
    return PROGRAM.format(use=use, missing=MISSING)


def test_there_is_a_use_of_every_extra() -> None:
    assert sorted(USES) == EXTRAS


@pytest.mark.parametrize("extra", EXTRAS)
def test_without_an_extra_one_error_names_it(alone: Environment, extra: str) -> None:
    done = alone.run(alone.python, "-c", program(extra), code=MISSING)
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr), done.stderr
    assert f"pip install 'erase-core[{TOGETHER.get(extra, extra)}]'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
def test_with_an_extra_it_works(wheel: Path, tmp_path: Path, extra: str) -> None:
    text = program(extra)
    environment = Environment(tmp_path / "environment", wheel, TOGETHER.get(extra, extra))
    try:
        done = environment.run(environment.python, "-c", text, code=None)
        assert "erase-core[" not in done.stderr
        # A command has no store to work with.
        assert done.returncode == (5 if "'nowhere'" in text else 0), done.stderr
        environment.run("erase", "--help")
    finally:
        shutil.rmtree(environment.folder)


@pytest.mark.slow
def test_the_readme_runs_as_it_says(wheel: Path, tmp_path: Path) -> None:
    """Its code, Python and shell, in an environment with what it has installed."""
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert [language for language, _ in blocks] == ["python", "sh"]
    environment = Environment(tmp_path / "environment", wheel, "llm")
    environment.install("--no-deps", *PACKAGED)
    try:
        for language, code in blocks:
            how: list[str | Path] = ["bash", "-euc"] if language == "sh" else [environment.python, "-c"]
            environment.run(*how, code)
        assert (environment.home / "tickets.jsonl").read_text().count("customer") == 2
    finally:
        shutil.rmtree(environment.folder)
