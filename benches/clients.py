"""What each client costs: size, import time, time to the first result, and lines, as the table of docs/clients.md.

    python benches/clients.py --wheel dist/erase_core-*.whl --page docs/clients.md

Each client is installed from the wheel into an environment of its own, in `--folder`, by uv. An environment that is
there already is used again. What a user writes is a program in benches/clients/. It runs in a folder with a store of
the demo's examples, whose prompt is the same for all questions, so that no embedding model is loaded. One client has a
store with the packaged embedding model. The model server that some of them ask answers at once. Without --wheel, the
times are those of this environment, and there are no sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from erase_core import Erase
from numpy.typing import NDArray

PROGRAMS = Path(__file__).parent / "clients"
DEMO = "demo/examples.jsonl"
TORCH = ("functorch", "nvidia", "torch", "triton")
HEADINGS = ("client", "extras", "installed, MB", "of it torch, MB", "import, s", "first result, s", "lines")
BLOCK = re.compile(r"(?<=<!-- clients -->\n).*(?=<!-- end -->)", re.DOTALL)


class Client(NamedTuple):
    """A client: its name on the page, the extras to install, what it imports, its program, and its kind of store."""

    name: str
    extras: tuple[str, ...]
    module: str
    program: str
    strategy: Literal["kmeans", "knn"] = "kmeans"


CLIENTS = (
    Client("command line", (), "erase_core.cli.app", "with_command_line.sh"),
    Client("Python", (), "erase_core", "with_python.py"),
    Client("Python, by embedding the question", ("llm",), "erase_core", "with_python.py", "knn"),
    Client("`erase serve`", ("serve", "openai"), "erase_core.server.app", "with_serve.py"),
    Client("`erase mcp`", ("mcp",), "erase_core.mcp_server", "with_mcp.py"),
    Client("LangChain", ("langchain",), "erase_core.integrations.langchain", "with_langchain.py"),
    Client("DSPy", ("dspy",), "erase_core.integrations.dspy", "with_dspy.py"),
    Client("lm-evaluation-harness", ("lm-eval",), "erase_core.integrations.lm_eval", "with_lm_eval.py"),
    Client("Haystack", ("haystack",), "erase_core.integrations.haystack", "with_haystack.py"),
    Client("LiteLLM", ("litellm",), "erase_core.integrations.litellm", "with_litellm.py"),
)


# ---- an environment ----
class Environment(NamedTuple):
    """A Python with the packages of a client, and the bytes that they take: of torch, and of all. None if unknown."""

    python: Path
    torch: int | None = None
    size: int | None = None


def installed(client: Client, wheel: Path, folder: Path) -> Environment:
    """A new environment with the wheel and the client's extras alone."""
    home = folder / ("-".join(client.extras) or "alone")
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        extras = f"[{','.join(client.extras)}]" if client.extras else ""
        uv("venv", "--clear", "--quiet", "--python", sys.executable, home)
        wanted = f"erase-core{extras} @ {wheel.as_uri()}"
        uv("pip", "install", "--quiet", "--compile-bytecode", "--python", python, wanted)
        (home / "complete").touch()
    [packages] = home.glob("lib/python*/site-packages")
    return Environment(python, size_of(packages.glob("*"), TORCH), size_of(packages.glob("*")))


def uv(*arguments: object) -> None:
    subprocess.run(["uv", *map(str, arguments)], check=True)


def size_of(places: Iterator[Path], names: tuple[str, ...] = ("",)) -> int:
    """Bytes of the files below the places whose names begin so."""
    wanted = [place for place in places if place.name.startswith(names)]
    files = [file for place in wanted for file in ([place] if place.is_file() else place.rglob("*"))]
    return sum(file.lstat().st_size for file in files if file.is_file())


# ---- what it is measured with ----
class DrawnVectors:
    """An embedding model for the store: vectors that are drawn by the texts."""

    name, dim = "drawn", 32

    def embed(self, texts: Sequence[str], *, progress: bool = False) -> NDArray[np.float32]:
        rows = [np.random.default_rng(list(text.encode())).normal(size=self.dim) for text in texts]
        matrix: NDArray[np.float32] = np.array(rows, dtype=np.float32).reshape(len(texts), self.dim)
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        return matrix


def make_store(path: Path, strategy: Literal["kmeans", "knn"]) -> None:
    embedder = DrawnVectors() if strategy == "kmeans" else None
    with Erase.create(path, strategy=strategy, n_shots=4, embedder=embedder) as erase:
        erase.ingest(Path(sys.modules["erase_core"].__file__ or "").parent / DEMO)


class Answering(BaseHTTPRequestHandler):
    """A model server that gives every chat the same answer, in DSPy's form if this is asked for."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        content = "[[ ## answer ## ]]\ndelivery\n\n[[ ## completed ## ]]" if b"## answer ##" in asked else "delivery"
        message = {"role": "assistant", "content": content}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": "any"}
        body = json.dumps({**answer, "choices": choices, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def model_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


# ---- measuring ----
def environment(python: Path, address: str, folder: Path) -> dict[str, str]:
    """The variables of a client's program: its own commands first, nothing fetched, caches in a folder of the run."""
    return {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "ERASE_STORE": str(folder / "store"),
        "MODEL_SERVER": address,
        "DSPY_CACHEDIR": str(folder / "dspy"),
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def import_time(python: Path, module: str, folder: Path, address: str, repeats: int) -> float:
    """Median of the seconds that an import takes, beyond those of an interpreter that imports nothing."""
    variables = environment(python, address, folder)

    def median(program: str) -> float:
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            subprocess.run([python, "-c", program], check=True, env=variables, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])  # the first one reads the disk

    return median(f"import {module}") - median("pass")


def first_result(python: Path, program: Path, folder: Path, address: str, repeats: int) -> float:
    """Median of the seconds from the start of a program to the first line that it prints."""
    command = ["sh" if program.suffix == ".sh" else str(python), str(program)]
    variables = environment(python, address, folder)
    times = []
    for _ in range(repeats + 1):
        with tempfile.TemporaryFile("w+") as errors:
            options: dict[str, Any] = {"cwd": folder, "env": variables, "stderr": errors, "text": True}
            start = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
                assert process.stdout is not None
                line = process.stdout.readline()
                times.append(time.perf_counter() - start)
                process.stdout.read()
            errors.seek(0)
            if process.returncode or not line.strip():
                raise SystemExit(f"{program.name} failed with {process.returncode}:\n{errors.read()}")
    return statistics.median(times[1:])


def lines(program: Path) -> int:
    """Lines of code, without blank lines and the docstring."""
    code = re.sub(r'^""".*?"""', "", program.read_text(), flags=re.DOTALL)
    return sum(bool(line.strip()) for line in code.splitlines())


def megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.0f}"


def row(client: Client, options: argparse.Namespace, folder: Path, address: str) -> list[str]:
    """The table's row of a client."""
    program = PROGRAMS / client.program
    used = Environment(Path(sys.executable))
    if options.wheel is not None:
        used = installed(client, options.wheel.resolve(), options.folder.resolve())
    taken = import_time(used.python, client.module, folder, address, options.repeats)
    first = first_result(used.python, program, folder, address, options.repeats)
    name = f"[{client.name}](https://github.com/erase-core/erase-core/blob/main/benches/clients/{client.program})"
    extras = ", ".join(f"`{extra}`" for extra in client.extras) or "none"
    sizes = [megabytes(used.size), megabytes(used.torch)]
    return [name, extras, *sizes, f"{taken:.2f}", f"{first:.2f}", str(lines(program))]


def table(rows: Sequence[Sequence[str]]) -> str:
    ruled = [HEADINGS, ["---", "---", *["---:"] * (len(HEADINGS) - 2)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in ruled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="The wheel to install.")
    parser.add_argument("--folder", type=Path, default=Path(".venv-clients"), help="Where the environments are.")
    parser.add_argument("--only", nargs="+", metavar="PROGRAM", help="Clients by their programs, such as with_mcp.py.")
    parser.add_argument("--repeats", type=int, default=5, help="Of each time, the median of so many is shown.")
    parser.add_argument("--page", type=Path, help="The page whose table is replaced.")
    options = parser.parse_args()
    clients = [client for client in CLIENTS if options.only is None or client.program in options.only]
    with tempfile.TemporaryDirectory() as temporary, model_server() as address:
        for strategy in {client.strategy: None for client in clients}:
            make_store(Path(temporary) / strategy / "store", strategy)
        rows = []
        for client in clients:
            rows.append(row(client, options, Path(temporary) / client.strategy, address))
            print("  ".join(rows[-1]), file=sys.stderr, flush=True)
    made = table(rows)
    print(made, end="")
    if options.page is not None:
        text = options.page.read_text()
        if not BLOCK.search(text):
            raise SystemExit(f"{options.page} has no place for the table: lines <!-- clients --> and <!-- end -->")
        options.page.write_text(BLOCK.sub(lambda _: made, text))


if __name__ == "__main__":
    main()
