"""The command `erase mcp`: serves a store to a client of the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated

import typer

from erase_core.cli import output, streams
from erase_core.cli.options import STORE, Key, KeyFrom, PublicKeys, Receipts, Store, open_store
from erase_core.errors import ParameterError

__all__ = ["mcp"]


def mcp(
    store: Store = STORE,
    allow_forget: Annotated[
        bool,
        typer.Option(
            "--allow-forget", help="Offer the tool forget, which removes examples. By default, a dry run only."
        ),
    ] = False,
    signing_key: Key = None,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
) -> None:
    """Serve the store to a client of the Model Context Protocol, over standard input and output.

    The client starts this command itself: see docs/mcp.md. Its model is shown examples, and keeps them in its
    conversation.
    """
    if streams.closed & {"stdin", "stdout"}:
        raise ParameterError("mcp needs standard input and output, and one is closed. Let a client start it.")
    from erase_core.mcp_server import serve

    with open_store(store, receipts, public_key, key_from, signing_key=signing_key) as erase:
        if output.is_terminal():
            output.note("this command waits for a client on standard input. Press Ctrl-D to end it.")
        serve(erase, allow_forget=allow_forget)
