"""The calls `status`, `examples` and `export`, which read the store as a whole."""

from __future__ import annotations

import io
from os import PathLike
from typing import BinaryIO, cast

from erase_core import checks
from erase_core.calls.handle import Handle
from erase_core.errors import StoreError, os_reason
from erase_core.examples.example import Example
from erase_core.examples.formats import write_jsonl
from erase_core.reports import Status

__all__ = ["all_examples", "export", "status_of"]


def status_of(handle: Handle) -> Status:
    """Return a summary of the store. See `Erase.status`."""
    with handle.reading() as reads:
        return Status(
            folder=str(handle.store.folder),
            n_examples=len(reads),
            n_subjects=reads.n_subjects(),
            strategy=handle.settings.strategy,
            n_shots=handle.settings.n_shots,
            demonstrations=handle.shown(reads),
            embedder=reads.constants.embedder,
            llm=handle.models.llm_name,
            digest=reads.metadata.digest,
            n_receipts=reads.metadata.head.number,
            receipts=str(handle.receipts.folder.path),
            scrubbed=reads.metadata.is_scrubbed,
            bytes=handle.store.size,
        )


def all_examples(handle: Handle) -> list[Example]:
    """Return all examples, by ascending id."""
    with handle.reading() as reads:
        return list(reads.all_examples())


def export(handle: Handle, path: str | PathLike[str] | BinaryIO) -> int:
    """Write all examples to a new file, and return their number. See `Erase.export`."""
    if isinstance(path, (io.RawIOBase, io.BufferedIOBase)):
        examples = all_examples(handle)
        write_jsonl(cast("BinaryIO", path), examples)
        return len(examples)
    target = checks.path("path", path)
    if target.resolve().is_relative_to(handle.store.folder.resolve()):
        raise StoreError(
            f"{path} is inside the store's folder, where it would keep examples that are forgotten later. Choose a "
            "file outside."
        )
    examples = all_examples(handle)
    try:
        write_jsonl(target, examples)
    except OSError as error:
        raise StoreError(f"{path}: {os_reason(error)}") from error
    return len(examples)
