"""The commands `erase receipts ...`: list, show, verify. With a folder of receipts at hand they need no store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from erase_core.errors import ParameterError, ReceiptError
from erase_core.terminal import notes, show

__all__ = ["app"]

app = typer.Typer(help="Receipts of removals.", no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path | None, typer.Option("--folder", help="Receipts by themselves, without their store.")]
Store = Annotated[Path, typer.Option("--store", "-s", envvar="ERASE_STORE", help="Folder of the store.")]
Receipts = Annotated[
    Path | None,
    typer.Option("--receipts", envvar="ERASE_RECEIPTS", help="Folder of the store's receipts, if they were moved."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
STORE = Path("store")


@app.command("list")
def list_(folder: Folder = None, store: Store = STORE, receipts: Receipts = None, as_json: AsJson = False) -> None:
    """Print a line for each receipt."""
    from erase_core.chain import ReceiptFolder

    found = ReceiptFolder(_place(folder, store, receipts)[0])
    all_ = [found.read(number) for number in found.numbers()]
    lines = [
        f"{each.number:>6}  {each.time}  {len(each.rows)} by {each.scope}, {each.n_after} remain, {each.path}"
        f"{', signed' if each.signature else ''}  {each.hash[:16]}"
        for each in all_
    ]
    show({"receipts": [each.to_dict() for each in all_]}, lines or ["no receipts"], as_json=as_json)


@app.command("show")
def show_(
    number: Annotated[int, typer.Argument(help="Which one.")],
    folder: Folder = None,
    store: Store = STORE,
    receipts: Receipts = None,
    as_json: AsJson = False,
) -> None:
    """Print a receipt."""
    from erase_core.chain import ReceiptFolder

    found = ReceiptFolder(_place(folder, store, receipts)[0])
    if number not in found.numbers():
        raise ReceiptError(f"{found.path} holds no receipt {number}")
    receipt = found.read(number).to_dict()
    lines = [f"{name:<18} {_short(value)}" for name, value in receipt.items()]
    show(receipt, lines, as_json=as_json)


@app.command()
def verify(
    folder: Folder = None,
    store: Store = STORE,
    receipts: Receipts = None,
    head: Annotated[str | None, typer.Option(help="The newest receipt as it was written down: NUMBER:HASH.")] = None,
    public_key: Annotated[
        list[str] | None, typer.Option(help="A key, in hex or as a PEM file, that must have signed; repeat it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that receipts form a chain that nobody has touched."""
    from erase_core.chain import verify_receipts

    path, known = _place(folder, store, receipts)
    newest = known if head is None else _head(head)
    verification = verify_receipts(path, head=newest, public_keys=public_key or ())
    lines = [str(verification)]
    if newest is None and verification.ok:
        lines.append("note: without the store or --head nobody sees whether the newest receipts are missing")
    show(asdict(verification), lines, as_json=as_json)
    if not verification.ok:
        raise typer.Exit(1)


def _place(folder: Path | None, store: Path, receipts: Path | None) -> tuple[Path, tuple[int, str] | None]:
    """Return where receipts lie and, if there is a store, number and hash of its newest."""
    if folder is not None:
        if receipts is not None:
            raise ParameterError("give either --folder, which needs no store, or --receipts")
        return folder, None
    from erase_core.pipeline import Erase

    with notes(), Erase.open(store, receipts=receipts) as erase:
        return Path(erase.status().receipts), erase.newest_receipt


def _head(text: str) -> tuple[int, str]:
    number, colon, hash_ = text.partition(":")
    if not colon or not number.isdecimal() or len(hash_) != 64:
        raise ParameterError(f"--head must be a number, a colon and 64 hexadecimal digits, got {text!r}")
    return int(number), hash_


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 200 else f"{text[:100]}... ({len(text)} characters; --json prints all)"
