"""The files of receipts: a folder with one file for each removal. For the verification of the chain, see chain.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from erase_core.errors import ReceiptError, os_reason
from erase_core.fs.durable import make_folder, partials_left, sync_folder, write_new
from erase_core.fs.status import exists, is_dir, is_file
from erase_core.receipts.receipt import Receipt

__all__ = ["FoundReceipt", "ReceiptFolder"]

MARK = "STORE"
NAME = re.compile(r"([0-9]{8})\.json")


class FoundReceipt(NamedTuple):
    """What is found under a receipt's number.

    Parameters
    ----------
    number : int
    receipt : Receipt or ReceiptError
        The error if it cannot be read.
    is_replaced : bool
        Whether the folder has another receipt than the one that is to be published under this number.
    """

    number: int
    receipt: Receipt | ReceiptError
    is_replaced: bool = False

    @property
    def in_place(self) -> Receipt | None:
        """The receipt, if it can be read and has this number."""
        return self.receipt if isinstance(self.receipt, Receipt) and self.receipt.number == self.number else None


class ReceiptFolder:
    """A folder with one store's receipts: ``00000001.json`` and so on.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def new(cls, path: Path, owner: str) -> ReceiptFolder:
        """Make a folder for a store's receipts, and write the store's name to it. It may exist, if no store uses it.

        Raises
        ------
        ReceiptError
            The folder cannot be made, or belongs to another store.
        """
        folder = cls(path.absolute())
        try:
            make_folder(folder.path)
            taken = folder.numbers()
        except OSError as error:
            raise ReceiptError(f"{path}: {os_reason(error)}") from error
        if taken:
            raise ReceiptError(f"{path} holds receipts of another store. Choose another folder.")
        try:
            write_new(folder.path / MARK, f"{owner}\n".encode())
        except FileExistsError:
            raise ReceiptError(
                f"{path} is reserved for another store's receipts. Choose another folder; or, if that store was never "
                f"created, delete the file {MARK} in it."
            ) from None
        except OSError as error:
            raise ReceiptError(f"{path}: {os_reason(error)}") from error
        return folder

    def give_up(self) -> None:
        """Delete the file with the store's name."""
        with suppress(OSError):
            (self.path / MARK).unlink()

    @property
    def owner(self) -> str:
        """Name of the store that the folder belongs to; empty if it belongs to none."""
        try:
            return (self.path / MARK).read_text("ascii", "replace").strip()
        except OSError:
            return ""

    def numbers(self) -> list[int]:
        """Return the numbers of all receipts, ascending; an empty list if the folder does not exist.

        Raises
        ------
        ReceiptError
            The folder cannot be read.
        """
        try:
            names = [file.name for file in self.path.iterdir()] if is_dir(self.path) else []
        except OSError as error:
            raise ReceiptError(f"{self.path}: {os_reason(error)}") from error
        return sorted(int(match[1]) for name in names if (match := NAME.fullmatch(name)))

    def read(self, number: int) -> Receipt:
        """Read a receipt.

        Raises
        ------
        ReceiptError
            The receipt is missing or modified.
        """
        file = self.file(number)
        if exists(file) and not is_file(file):
            raise ReceiptError(f"{file} is not a file")
        try:
            return Receipt.from_bytes(file.read_bytes())
        except OSError as error:
            raise ReceiptError(f"{file}: {os_reason(error)}") from error
        except ReceiptError as error:
            raise ReceiptError(f"{file}: {error}") from None

    def collect(
        self, pending: Mapping[int, bytes] = MappingProxyType({}), upto: int | None = None
    ) -> list[FoundReceipt]:
        """Read all receipts, by ascending number. Those that are not published yet count as if they were.

        Parameters
        ----------
        pending : mapping of int to bytes
            Receipts that are to be published, by number.
        upto : int or None, default=None
            The largest number to read; None reads all.

        Raises
        ------
        ReceiptError
            The folder cannot be read. An error of a single receipt is returned in its place.
        """
        numbers = sorted({*self.numbers(), *pending})
        return [self._found(number, pending.get(number)) for number in numbers if upto is None or number <= upto]

    def _found(self, number: int, pending: bytes | None) -> FoundReceipt:
        try:
            if pending is not None and not exists(self.file(number)):
                return FoundReceipt(number, Receipt.from_bytes(pending))
            receipt = self.read(number)
        except ReceiptError as error:
            return FoundReceipt(number, error)
        return FoundReceipt(number, receipt, is_replaced=pending not in (None, receipt.to_bytes()))

    def publish(self, number: int, content: bytes, *, new_folder: bool = False) -> None:
        """Write a receipt durably, unless it exists already. The folder is made only if `new_folder` is set.

        Raises
        ------
        ReceiptError
            Another receipt with this number exists.
        OSError
            The receipt cannot be written.
        """
        if new_folder:
            make_folder(self.path)
        try:
            write_new(self.file(number), content)
        except FileExistsError:
            if self.file(number).read_bytes() != content:
                raise ReceiptError(f"{self.file(number)} is not the receipt of this store") from None
            sync_folder(self.path)  # an earlier attempt may have failed here

    def clear_unfinished(self) -> None:
        """Delete files of processes that were killed while they published a receipt.

        Raises
        ------
        OSError
        """
        for partial in partials_left(self.path, "[0-9]" * 8 + ".json"):
            partial.unlink(missing_ok=True)

    def file(self, number: int) -> Path:
        """Return the path of a receipt's file."""
        return self.path / f"{number:08}.json"
