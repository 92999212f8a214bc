"""Clients of `erase mcp`: that of the package `mcp`, and one that writes lines to the process by itself."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from command_line import command
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult
from processes import HANG

T = TypeVar("T")

VERSION = "2025-06-18"


def with_client(server: Any, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """The result of a coroutine that works with a client of a server, in this process or started by parameters."""

    async def run() -> T:
        result: list[T] = []
        failed: Exception | None = None
        async with Client(server) as client:
            try:
                result.append(await work(client))
            except Exception as error:  # within the block, it would come out in a group
                failed = error
        if failed is not None:
            raise failed
        return result[0]

    return asyncio.run(asyncio.wait_for(run(), HANG))


def called(server: Any, *calls: tuple[str, dict[str, Any]]) -> list[CallToolResult]:
    """The results of tools, called one after the other; results that are not errors fit the tools' schemas."""

    async def work(client: Client) -> list[CallToolResult]:
        return [await client.call_tool(name, arguments) for name, arguments in calls]

    return with_client(server, work)


def values(server: Any, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What tools return, none of them an error: the same as structure and as text."""
    results = called(server, *calls)
    assert not any(result.is_error for result in results), results
    for result in results:
        assert json.loads(said(result)) == result.structured_content
    return [result.structured_content or {} for result in results]


def said(result: CallToolResult) -> str:
    """The one text of a result."""
    [content] = result.content
    assert content.type == "text"
    return content.text


def process(*arguments: object) -> StdioServerParameters:
    """How a client starts `erase mcp`."""
    program, *rest = command("mcp", *arguments)
    return StdioServerParameters(command=program, args=rest, env=dict(os.environ))


class Raw:
    """A process `erase mcp`, to which lines are written by hand."""

    def __init__(self, *arguments: object, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command("mcp", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        self._number = 0

    def __enter__(self) -> Raw:
        self.request("initialize", protocolVersion=VERSION, capabilities={}, clientInfo={"name": "raw", "version": "1"})
        self.write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def write(self, message: dict[str, Any] | str) -> None:
        """Write a line."""
        assert self.process.stdin is not None
        self.process.stdin.write((message if isinstance(message, str) else json.dumps(message)) + "\n")
        self.process.stdin.flush()

    def send(self, method: str, **parameters: Any) -> None:
        """Send a request."""
        self._number += 1
        self.write({"jsonrpc": "2.0", "id": self._number, "method": method, "params": parameters})

    def request(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a request; return its result."""
        self.send(method, **parameters)
        assert self.process.stdout is not None
        answer = json.loads(self.process.stdout.readline())
        assert answer["id"] == self._number
        result: dict[str, Any] = answer["result"]
        return result

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool; return its structured result."""
        result = self.request("tools/call", name=name, arguments=arguments)
        assert not result["isError"], result
        value: dict[str, Any] = result["structuredContent"]
        return value

    def close(self) -> None:
        """Close its input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def ended(self) -> tuple[int, list[str], str]:
        """Close its input, and return its exit code, the lines that it still wrote, and what it said on stderr."""
        written, errors = self.process.communicate(timeout=HANG)
        return self.process.returncode, written.splitlines(), errors


def run_with(program: str, path: Path, arguments: Sequence[object] = ()) -> subprocess.CompletedProcess[str]:
    """Run `erase mcp` after some lines of a program, with nothing on standard input."""
    lines = [program, "import sys", f"sys.argv = {['erase', 'mcp', '--store', str(path), *map(str, arguments)]!r}"]
    lines += ["from erase_core.cli.app import main", "main()"]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG,
    )
