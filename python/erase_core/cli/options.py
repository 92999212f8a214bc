"""Options that several commands share, and their values: an open store, lines of a file, number and hash of a receipt.

`app` lists the commands, and where they are.
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
    "OF_SERVER",
    "OF_STORE",
    "STDIN",
    "STORE",
    "AbsentFrom",
    "AsJson",
    "Key",
    "KeyFrom",
    "KeyVariable",
    "Known",
    "Model",
    "Options",
    "Parallel",
    "Parameters",
    "PublicKeys",
    "Queries",
    "Receipts",
    "Store",
    "lines_of",
    "named_and_listed",
    "open_store",
    "queries_of",
    "receipt_ref_of",
    "server_options",
    "stdin_bytes",
    "stdout_bytes",
    "text_of",
    "unescaped",
]

# "-" as a file name means standard input.
STDIN = Path("-")
STORE = Path("store")
# Sections of a command's help.
OF_STORE = "Store and keys"
OF_SERVER = "Model server"
PUBLIC_KEYS = "ERASE_PUBLIC_KEY"
RECEIPT_REF = re.compile(r"([1-9][0-9]{0,17}):([0-9A-Fa-f]{64})|0:(0{64})?")

Store = Annotated[
    Path, typer.Option("--store", "-s", envvar="ERASE_STORE", rich_help_panel=OF_STORE, help="Folder of the store.")
]
Receipts = Annotated[
    Path | None,
    typer.Option(
        "--receipts",
        envvar="ERASE_RECEIPTS",
        rich_help_panel=OF_STORE,
        help="Folder of the store's receipts, if it was moved.",
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        "--signing-key",
        envvar="ERASE_SIGNING_KEY",
        rich_help_panel=OF_STORE,
        help="Ed25519 private key (PEM) to sign receipts; its password is read from ERASE_SIGNING_PASSWORD.",
    ),
]


def _named_keys(keys: list[str] | None) -> list[str] | None:
    """Refuse an empty list of keys in the environment, and empty keys: they would check nothing."""
    if not keys and PUBLIC_KEYS in os.environ:
        raise ParameterError(f"{PUBLIC_KEYS} is set but empty. Put the public keys into it, or unset it.")
    if not all(key.strip() for key in keys or ()):
        raise ParameterError("--public-key must be a key in hex or a PEM file, got ''. Give a key, or leave it out.")
    return keys


PublicKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--public-key",
        envvar=PUBLIC_KEYS,
        rich_help_panel=OF_STORE,
        callback=_named_keys,
        help="Public key, in hex or as a PEM file; may be repeated. Each receipt must be signed by one of the keys. "
        "The variable separates keys by white space, so a file name with blanks must be given as an option.",
    ),
]
Known = Annotated[
    list[str] | None,
    typer.Option(metavar="NUMBER:HASH", help="A receipt that was written down and must be found; may be repeated."),
]
AbsentFrom = Annotated[
    Path | None,
    typer.Option(
        "--absent-from",
        help="A file with such texts, one on each line; - for standard input. Blank lines are ignored. A text of "
        "several lines is searched line by line.",
    ),
]
Model = Annotated[str | None, typer.Option("--llm", help="Language model to use instead of the store's.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        metavar="NAME=VALUE",
        rich_help_panel=OF_SERVER,
        help="Option for requests to the model server: timeout (seconds), max_retries, context_length or "
        "thinking_tokens; may be repeated.",
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--llm-parameter",
        metavar="NAME=VALUE",
        rich_help_panel=OF_SERVER,
        help="Further parameter of requests, such as reasoning_effort=low; may be repeated. null removes a default "
        "parameter: temperature=null.",
    ),
]
KeyVariable = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="NAME",
        rich_help_panel=OF_SERVER,
        help="Environment variable with the server's key; OPENAI_API_KEY by default. The key is not stored.",
    ),
]
KeyFrom = Annotated[
    str | None,
    typer.Option(
        "--key-from",
        metavar="FILE|env:NAME",
        envvar="ERASE_KEY_FROM",
        rich_help_panel=OF_STORE,
        help="A key of your own that wraps the keys of the store: a file, or an environment variable.",
    ),
]
Queries = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Instead of QUERY: a file with questions, one on each line; - for standard input. Blank lines are "
        "ignored. The results are printed one on each line, also with --json.",
    ),
]
Parallel = Annotated[int, typer.Option(help="With --queries, number of requests at a time to a model server.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def open_store(
    store: Path,
    receipts: Path | None,
    public_keys: Sequence[str] | None,
    key_from: str | None,
    *,
    llm: str | None = None,
    signing_key: Path | None = None,
    server: Mapping[str, object] | None = None,
) -> Erase:
    """Open a store. Warnings are shown on stderr."""
    from erase_core.erase import Erase

    with notes():
        return Erase.open(
            store,
            llm=llm,
            server=server,
            receipts=receipts,
            signing_key=_signer(signing_key),
            public_keys=public_keys or (),
            key=key_from,
        )


def queries_of(query: str | None, file: Path | None) -> list[str] | None:
    """Return the questions of a file; None if the one question is an argument."""
    if (query is None) == (file is None):
        raise ParameterError("a question is needed, as QUERY, or several with --queries FILE. Give one of the two.")
    return None if file is None else lines_of("--queries", file)


def server_options(
    options: Sequence[str] | None, parameters: Sequence[str] | None, key_variable: str | None
) -> dict[str, object] | None:
    """Return the options for a model server by the names of `ServerOptions`; None if there are none."""
    named = _values("--server", options or ())
    kept = [name for name in named if name in ("parameters", "api_key_env")]
    if kept:
        raise ParameterError(f"--server must not have {kept[0]}. Use --llm-parameter or --api-key-env instead.")
    if parameters:
        named["parameters"] = _values("--llm-parameter", parameters)
    if key_variable is not None:
        named["api_key_env"] = key_variable
    return named or None


def unescaped(text: str) -> str:
    r"""Return a text with the escapes ``\n``, ``\r``, ``\t`` and ``\\`` replaced."""
    signs = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
    return re.sub(r"\\([ntr\\])", lambda match: signs[match[1]], text)


def _values(option: str, given: Sequence[str]) -> dict[str, object]:
    """Return the values by their names. A value is parsed as JSON if possible; otherwise it is text."""
    values: dict[str, object] = {}
    for text in given:
        name, mark, value = text.partition("=")
        if not mark or not name:  # the value is not shown: it may be a key
            raise ParameterError(f"{option} must have the form NAME=VALUE. Put a name and = before the value.")
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


def receipt_ref_of(option: str, text: str) -> ReceiptRef:
    """Return number and hash of a receipt from the text of an option. ``0:`` means no receipt."""
    from erase_core.receipts.receipt import ReceiptRef

    if not RECEIPT_REF.fullmatch(text):
        raise ParameterError(f"{option} must be NUMBER:HASH with a hash of 64 hexadecimal digits, got {text!r}")
    number, _, hash_ = text.partition(":")
    return ReceiptRef(int(number), hash_)


def stdin_bytes(name: str) -> BinaryIO:
    """Return standard input as a binary stream. `name` is the argument or option that has the value ``-``."""
    if sys.stdin is None or "stdin" in streams.closed:
        raise ParameterError(f"{name}: - means standard input, which is closed. Give a file.")
    return sys.stdin.buffer


def stdout_bytes() -> BinaryIO:
    """Return standard output as a binary stream."""
    if sys.stdout is None or "stdout" in streams.closed:
        raise ParameterError("FILE: - means standard output, which is closed. Give a file.")
    sys.stdout.flush()
    return sys.stdout.buffer


def text_of(option: str, file: Path) -> str:
    """Return the text of a file given as an option, or of standard input."""
    try:
        content = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
    except OSError as error:
        name = "standard input cannot be read" if file == STDIN else file
        raise ParameterError(f"{option}: {name}: {os_reason(error)}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParameterError(f"{option}: {file} is not in UTF-8: byte {error.start + 1}") from None


def named_and_listed(named: Sequence[str] | None, option: str, file: Path | None, shortest: int = 0) -> list[str]:
    """Return the values of a repeated option, and the lines of a file that another option names. See `lines_of`."""
    return [*(named or ()), *(lines_of(option, file, shortest) if file is not None else ())]


def lines_of(option: str, file: Path, shortest: int = 0) -> list[str]:
    """Return the lines of a file given as an option. Blank lines are ignored; others need at least `shortest` bytes."""
    lines = {
        number: line.removesuffix("\r")
        for number, line in enumerate(text_of(option, file).split("\n"), 1)
        if line.strip()
    }
    for number, line in lines.items():
        if len(line.encode()) < shortest:
            raise ParameterError(
                f"{option}: {file}: line {number} must have at least {shortest} bytes. Remove it, or make it longer."
            )
    return list(lines.values())
