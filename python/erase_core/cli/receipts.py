"""The commands `erase receipts list`, `show` and `verify`. With --folder, they need no store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from erase_core.cli.options import (
    STORE,
    AsJson,
    KeyFrom,
    Known,
    PublicKeys,
    Receipts,
    Store,
    open_store,
    receipt_ref_of,
)
from erase_core.cli.output import Command, note, show
from erase_core.errors import ParameterError, ReceiptError

if TYPE_CHECKING:
    from erase_core.erase import Erase
    from erase_core.receipts.folder import ReceiptFolder
    from erase_core.receipts.receipt import ReceiptRef

__all__ = ["app"]

app = typer.Typer(help="List, show and verify the receipts of removals.", no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path | None, typer.Option("--folder", help="Folder of receipts, to read them without their store.")]


@app.command("list", cls=Command)
def list_(
    ctx: typer.Context,
    folder: Folder = None,
    store: Store = STORE,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Print one line for each receipt."""
    found = _receipts(ctx, folder, partial(open_store, store, receipts, public_key, key_from))
    all_ = [found.read(number) for number in found.numbers()]
    lines = [
        f"{each.number:>6}  {each.time}  {len(each.rows)} by {each.scope}, {each.n_after} "
        f"remain{'s' if each.n_after == 1 else ''}, {each.path}"
        f"{', signed (not checked)' if each.signature else ''}  {each.hash[:16]}"
        for each in all_
    ]
    show({"receipts": [each.to_dict() for each in all_]}, lines or ["no receipts"], as_json=as_json)


@app.command("show", cls=Command)
def show_(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="Number of the receipt.")],
    folder: Folder = None,
    store: Store = STORE,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Print a receipt."""
    found = _receipts(ctx, folder, partial(open_store, store, receipts, public_key, key_from))
    if number not in found.numbers():
        raise ReceiptError(f"{found.path} does not contain receipt {number}")
    receipt = found.read(number).to_dict()
    lines = [f"{name:<18} {_short(value)}" for name, value in receipt.items()]
    show(receipt, lines, as_json=as_json)


@app.command(cls=Command)
def verify(
    ctx: typer.Context,
    folder: Folder = None,
    store: Store = STORE,
    receipts: Receipts = None,
    key_from: KeyFrom = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER:HASH",
            help="The newest receipt, as it was written down; 0: if there were no receipts yet.",
        ),
    ] = None,
    known: Known = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Check that the receipts form a complete and unmodified chain."""
    from erase_core.receipts.chain import verify_receipts

    named = None if head is None else receipt_ref_of("--head", head)
    earlier = [receipt_ref_of("--known", each) for each in known or ()]
    path, newest = _place(ctx, folder, partial(open_store, store, receipts, public_key, key_from))
    newest = named or newest
    verification = verify_receipts(path, head=newest, known=earlier, public_keys=public_key or ())
    lines = [str(verification)]
    if newest is None and verification.ok:
        lines.append("note: without the store or --head, missing newest receipts cannot be detected")
    show(verification.to_dict(), lines, as_json=as_json)
    if not verification.ok:
        raise typer.Exit(1)


def _receipts(ctx: typer.Context, folder: Path | None, open_it: Callable[[], Erase]) -> ReceiptFolder:
    """Return the receipts to list or show. With --folder, their signatures are not checked."""
    from erase_core.receipts.folder import ReceiptFolder

    if folder is not None and _is_given(ctx, "public_key"):
        raise ParameterError(
            "--public-key has no effect with --folder here: only `erase receipts verify` checks signatures. Leave out "
            "--public-key."
        )
    return ReceiptFolder(_place(ctx, folder, open_it)[0])


def _is_given(ctx: typer.Context, option: str) -> bool:
    """Whether an option is given on the command line, not by the environment."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _place(ctx: typer.Context, folder: Path | None, open_it: Callable[[], Erase]) -> tuple[Path, ReceiptRef | None]:
    """Return the folder of receipts and, if there is a store, number and hash of its newest receipt."""
    if folder is not None:
        if _is_given(ctx, "receipts"):
            raise ParameterError("--folder and --receipts exclude each other. Give --folder to read without a store.")
        return folder, None
    from erase_core.receipts.folder import ReceiptFolder

    with open_it() as erase:
        status, newest = erase.status(), erase.newest_receipt
    path = Path(status.receipts)
    published = max(ReceiptFolder(path).numbers(), default=0)
    if not status.scrubbed and published < newest.number:
        note(f"the newest receipt, {newest.number}, is not published yet; the next command publishes it")
    return path, newest


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 200 else f"{text[:100]}... ({len(text)} characters; --json prints all)"
