"""The command `erase serve`: opens a store, and answers requests until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from erase_core.cli import output, streams
from erase_core.cli.options import (
    STORE,
    Key,
    KeyFrom,
    KeyVariable,
    Model,
    Options,
    PublicKeys,
    Receipts,
    Store,
    open_store,
    server_options,
)
from erase_core.errors import MissingPackageError, ParameterError
from erase_core.progress import waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from erase_core.server.upstream import Upstream
    from erase_core.settings import Settings

__all__ = ["serve"]

MEGABYTE = 1_000_000
NEEDED = ("fastapi", "httpx", "prometheus_client", "uvicorn")


def serve(
    store: Store = STORE,
    host: Annotated[str, typer.Option(help="Address to listen at. Any but this machine's own needs tokens.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8000,
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address of the model server; by default, that of the store, or else the model in this process.",
        ),
    ] = None,
    server: Options = None,
    api_key_env: KeyVariable = None,
    llm: Model = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", envvar="ERASE_TOKEN_FILE", help="File with the hashes of tokens.")
    ] = None,
    new_token: Annotated[
        str | None,
        typer.Option(
            metavar="SCOPES",
            help="Make a token, add its hash to --token-file, print the token, and exit. Scopes: ask, ingest, forget, "
            "metrics; several with commas.",
        ),
    ] = None,
    max_body: Annotated[int, typer.Option(min=1, max=10_000, help="Most megabytes of a request.")] = 10,
    drain: Annotated[
        float,
        typer.Option(min=0, max=3600, help="Seconds that a removal waits for chats with its examples; then they end."),
    ] = 30,
    grace: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds that running requests have when the server is stopped.")
    ] = 30,
    hide_ids: Annotated[
        bool,
        typer.Option("--hide-ids", help="Do not name the demonstrations in the headers of answers and in the status."),
    ] = False,
    signing_key: Key = None,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
) -> None:
    """Serve the store to OpenAI clients: chats with demonstrations, adding and forgetting examples, receipts.

    Stop it with Ctrl-C or SIGTERM: requests that run may end.
    """
    _check_packages()
    from erase_core.server.app import build_app
    from erase_core.server.auth import Tokens, is_local
    from erase_core.server.auth import new_token as made
    from erase_core.server.running import bound, run, url_of

    if new_token is not None:
        if token_file is None:
            raise ParameterError("--new-token needs --token-file, to which the token's hash is added. Give both.")
        streams.print_result(made(new_token, token_file), done=True)
        return
    tokens = None if token_file is None else Tokens.read(token_file)
    if tokens is None and not is_local(host):
        raise ParameterError(
            f"--host {host} can be reached from other machines, so tokens are needed. Make one by "
            "--new-token ask --token-file FILE, and give --token-file FILE."
        )
    with open_store(store, receipts, public_key, key_from, llm=llm, signing_key=signing_key) as erase:
        behind = _upstream(erase.settings, upstream, server_options(server, None, api_key_env))
        app = build_app(
            erase,
            upstream=behind,
            tokens=tokens,
            max_body=max_body * MEGABYTE,
            drain=drain,
            shows_ids=not hide_ids,
        )
        with bound(host, port) as listener:
            with waiting("Loading the embedding model"):
                erase.prompt("?")  # otherwise the first request would have to wait for it
            output.note(f"serving {store} at {url_of(listener)} (for OpenAI clients: /v1, its description: /docs)")
            run(app, listener, grace=grace)


def _upstream(settings: Settings, url: str | None, options: Mapping[str, object] | None) -> Upstream | None:
    """Return the model server; None for the model in this process."""
    from erase_core.llm import ServerOptions
    from erase_core.server.upstream import Upstream

    address = settings.base_url if url is None else url
    if address is None:
        if options is not None:
            raise ParameterError("--server and --api-key-env are for a model server. Give --upstream, or neither.")
        return None
    return Upstream(address, ServerOptions.of(options, settings.server))


def _check_packages() -> None:
    from importlib.util import find_spec

    missing = [name.replace("_", "-") for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingPackageError.of(", ".join(missing), "serve")
