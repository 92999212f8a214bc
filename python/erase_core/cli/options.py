"""Options that several commands of `erase` have, and what they stand for: an open store, a file's lines, a receipt.

What a command does with them is the business of cli.py and cli_receipts.py.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from erase_core.cli import streams
from erase_core.cli.output import notes
from erase_core.errors import ParameterError, os_reason

if TYPE_CHECKING:
    from erase_core.erase import Erase
    from erase_core.receipts.receipt import ReceiptRef
    from erase_core.receipts.signing import Signer

__all__ = [
    "STDIN",
    "STORE",
    "AsJson",
    "Key",
    "KeyVariable",
    "Known",
    "Model",
    "Options",
    "Parameters",
    "PublicKeys",
    "Receipts",
    "Store",
    "lines_of",
    "noted",
    "open_store",
    "server_options",
    "stdin_bytes",
    "stdout_bytes",
    "text_of",
    "unescaped",
]

# Where a file's name stands, and what stands for standard input.
STDIN = Path("-")
STORE = Path("store")
PUBLIC_KEYS = "ERASE_PUBLIC_KEY"
NOTED = re.compile(r"([1-9][0-9]{0,17}):([0-9A-Fa-f]{64})|0:(0{64})?")

Store = Annotated[Path, typer.Option("--store", "-s", envvar="ERASE_STORE", help="Folder of the store.")]
Receipts = Annotated[
    Path | None,
    typer.Option("--receipts", envvar="ERASE_RECEIPTS", help="Folder of the store's receipts, if they were moved."),
]
Key = Annotated[
    Path | None,
    typer.Option(
        "--signing-key",
        envvar="ERASE_SIGNING_KEY",
        help="Ed25519 key (PEM) to sign with; password in ERASE_SIGNING_PASSWORD.",
    ),
]


def _named_keys(keys: list[str] | None) -> list[str] | None:
    """Refuse keys that are named by nothing, which would be no check."""
    if not keys and PUBLIC_KEYS in os.environ:
        raise ParameterError(f"{PUBLIC_KEYS} is set but empty; name the public keys there, or unset it")
    if not all(key.strip() for key in keys or ()):
        raise ParameterError("--public-key must be a key in hex or a PEM file, got nothing; name it, or leave it out")
    return keys


PublicKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--public-key",
        envvar=PUBLIC_KEYS,
        callback=_named_keys,
        help="Key, in hex or as a PEM file, that may sign receipts; each must be signed by one; repeat it. In the "
        "variable keys are separated by white space; name a file with blanks in its name by the option.",
    ),
]
Known = Annotated[
    list[str] | None,
    typer.Option(help="A receipt that was written down and must be found: NUMBER:HASH; repeat it."),
]
Model = Annotated[str | None, typer.Option("--llm", help="Language model instead of the store's.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        metavar="NAME=VALUE",
        help="How the model server is asked: timeout (seconds), max_retries, context_length, thinking_tokens; "
        "repeat it.",
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--llm-parameter",
        metavar="NAME=VALUE",
        help="Further parameters for the server: reasoning_effort=low; null leaves a parameter out: "
        "temperature=null; repeat it.",
    ),
]
KeyVariable = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="NAME",
        help="Environment variable that holds the server's key; OPENAI_API_KEY by default. The key is not stored.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def open_store(
    store: Path,
    receipts: Path | None,
    public_keys: Sequence[str] | None,
    *,
    llm: str | None = None,
    signing_key: Path | None = None,
    server: Mapping[str, object] | None = None,
) -> Erase:
    """Open a store; what there is to note then is shown on stderr."""
    from erase_core.erase import Erase

    with notes():
        return Erase.open(
            store,
            llm=llm,
            server=server,
            receipts=receipts,
            signing_key=_signer(signing_key),
            public_keys=public_keys or (),
        )


def server_options(
    options: Sequence[str] | None, parameters: Sequence[str] | None, key_variable: str | None
) -> dict[str, object] | None:
    """Return what was said of a model server, by the names of `ServerOptions`; None if nothing was."""
    named = _values("--server", options or ())
    kept = [name for name in named if name in ("parameters", "api_key_env")]
    if kept:
        raise ParameterError(f"--server must not have {kept[0]}; give --llm-parameter or --api-key-env")
    if parameters:
        named["parameters"] = _values("--llm-parameter", parameters)
    if key_variable is not None:
        named["api_key_env"] = key_variable
    return named or None


def unescaped(text: str) -> str:
    r"""Return a text with line breaks for ``\n`` and ``\r`` in it, tabs for ``\t``, and ``\`` for ``\\``."""
    signs = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
    return re.sub(r"\\([ntr\\])", lambda match: signs[match[1]], text)


def _values(option: str, given: Sequence[str]) -> dict[str, object]:
    """Return names and values, these as JSON, or as they are if they are not JSON."""
    values: dict[str, object] = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not mark or not name:  # not shown: it may be a key
            raise ParameterError(f"{option} must look like NAME=VALUE; put a name and = before the value")
        try:
            values[name] = json.loads(value)
        except (ValueError, RecursionError):
            values[name] = value
    return values


def _signer(key: Path | None) -> Signer | None:
    if key is None:
        return None
    from erase_core.receipts.signing import Signer

    password = os.environ.get("ERASE_SIGNING_PASSWORD")
    return Signer(key, None if password is None else os.fsencode(password))


def noted(option: str, text: str) -> ReceiptRef:
    """Return a receipt's number and hash as an option names them; no receipt at all is ``0:``."""
    from erase_core.receipts.receipt import ReceiptRef

    if not NOTED.fullmatch(text):
        raise ParameterError(f"{option} must be a number, a colon and 64 hexadecimal digits, got {text!r}")
    number, _, hash_ = text.partition(":")
    return ReceiptRef(int(number), hash_)


def stdin_bytes(name: str) -> BinaryIO:
    """Return standard input, for what an argument or an option names by ``-``."""
    if sys.stdin is None or "stdin" in streams.closed:
        raise ParameterError(f"{name}: - is standard input, which is closed; name a file")
    return sys.stdin.buffer


def stdout_bytes() -> BinaryIO:
    """Return standard output, for what ``-`` names."""
    if sys.stdout is None or "stdout" in streams.closed:
        raise ParameterError("FILE: - is standard output, which is closed; name a file")
    sys.stdout.flush()
    return sys.stdout.buffer


def text_of(option: str, file: Path) -> str:
    """Return the text of a file that an option names, or of standard input."""
    try:
        content = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
    except OSError as error:
        name = "standard input cannot be read" if file == STDIN else file
        raise ParameterError(f"{option}: {name}: {os_reason(error)}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParameterError(f"{option}: {file} is not in UTF-8: byte {error.start + 1}") from None


def lines_of(option: str, file: Path, shortest: int = 0) -> list[str]:
    """Return the lines of such a text, which must have so many bytes; blank ones do not count."""
    lines = {
        number: line.removesuffix("\r")
        for number, line in enumerate(text_of(option, file).split("\n"), 1)
        if line.strip()
    }
    for number, line in lines.items():
        if len(line.encode()) < shortest:
            raise ParameterError(
                f"{option}: {file}: line {number} must have at least {shortest} bytes; leave it out, or add to it"
            )
    return list(lines.values())
