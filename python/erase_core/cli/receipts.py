"""The commands `erase receipts ...`: list, show, verify. With a folder of receipts at hand they need no store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from erase_core.cli.options import STORE, AsJson, Known, PublicKeys, Receipts, Store, noted, open_store
from erase_core.cli.output import note, show
from erase_core.errors import ParameterError, ReceiptError

if TYPE_CHECKING:
    from erase_core.receipts.folder import ReceiptFolder
    from erase_core.receipts.receipt import ReceiptRef

__all__ = ["app"]

app = typer.Typer(help="Receipts of removals.", no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path | None, typer.Option("--folder", help="Receipts by themselves, without their store.")]


@app.command("list")
def list_(
    context: typer.Context,
    folder: Folder = None,
    store: Store = STORE,
    receipts: Receipts = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Print a line for each receipt."""
    found = _receipts(context, folder, store, receipts, public_key)
    all_ = [found.read(number) for number in found.numbers()]
    lines = [
        f"{each.number:>6}  {each.time}  {len(each.rows)} by {each.scope}, {each.n_after} "
        f"remain{'s' if each.n_after == 1 else ''}, {each.path}"
        f"{', bears a signature' if each.signature else ''}  {each.hash[:16]}"
        for each in all_
    ]
    show({"receipts": [each.to_dict() for each in all_]}, lines or ["no receipts"], as_json=as_json)


@app.command("show")
def show_(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="Which one.")],
    folder: Folder = None,
    store: Store = STORE,
    receipts: Receipts = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Print a receipt."""
    found = _receipts(context, folder, store, receipts, public_key)
    if number not in found.numbers():
        raise ReceiptError(f"{found.path} holds no receipt {number}")
    receipt = found.read(number).to_dict()
    lines = [f"{name:<18} {_short(value)}" for name, value in receipt.items()]
    show(receipt, lines, as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    folder: Folder = None,
    store: Store = STORE,
    receipts: Receipts = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="The newest receipt as it was written down: NUMBER:HASH, or 0: if there are no receipts yet."
        ),
    ] = None,
    known: Known = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> None:
    """Check that receipts form a chain that nobody has touched."""
    from erase_core.receipts.chain import verify_receipts

    named = None if head is None else noted("--head", head)
    earlier = [noted("--known", each) for each in known or ()]
    path, newest = _place(context, folder, store, receipts, public_key)
    newest = named or newest
    verification = verify_receipts(path, head=newest, known=earlier, public_keys=public_key or ())
    lines = [str(verification)]
    if newest is None and verification.ok:
        lines.append("note: without the store or --head nobody sees whether the newest receipts are missing")
    show(verification.to_dict(), lines, as_json=as_json)
    if not verification.ok:
        raise typer.Exit(1)


def _receipts(
    context: typer.Context, folder: Path | None, store: Path, receipts: Path | None, public_keys: Sequence[str] | None
) -> ReceiptFolder:
    """Return receipts that are only shown: by themselves they are not checked by any key."""
    from erase_core.receipts.folder import ReceiptFolder

    if folder is not None and _is_given(context, "public_key"):
        raise ParameterError(
            "--folder and --public-key go together only in `erase receipts verify`, which checks receipts; leave out "
            "--public-key"
        )
    return ReceiptFolder(_place(context, folder, store, receipts, public_keys)[0])


def _is_given(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line, not in the environment."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _place(
    context: typer.Context, folder: Path | None, store: Path, receipts: Path | None, public_keys: Sequence[str] | None
) -> tuple[Path, ReceiptRef | None]:
    """Return where receipts lie and, if there is a store, number and hash of its newest."""
    if folder is not None:
        if _is_given(context, "receipts"):
            raise ParameterError("give either --folder, which needs no store, or --receipts")
        return folder, None
    from erase_core.receipts.folder import ReceiptFolder

    with open_store(store, receipts, public_keys) as erase:
        status, newest = erase.status(), erase.newest_receipt
    path = Path(status.receipts)
    published = max(ReceiptFolder(path).numbers(), default=0)
    if not status.scrubbed and published < newest.number:
        note(f"the newest receipt, {newest.number}, is not published yet; the next command publishes it")
    return path, newest


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 200 else f"{text[:100]}... ({len(text)} characters; --json prints all)"
