"""The calls `status`, `examples` and `export`, which read the store as a whole."""

from __future__ import annotations

import io
from os import PathLike
from typing import BinaryIO, cast

from erase_core import checks
from erase_core.calls.open_store import OpenStore
from erase_core.errors import StoreError, os_reason
from erase_core.examples.example import Example
from erase_core.examples.formats import write_jsonl
from erase_core.reports import Status
from erase_core.store.reads import Reads

__all__ = ["all_examples", "export_examples", "status_of"]


def status_of(opened: OpenStore) -> Status:
    """Return a summary of the store. See `Erase.status`."""

    def status(reads: Reads) -> Status:
        return Status(
            folder=str(opened.store.folder),
            n_examples=len(reads),
            n_subjects=reads.state.n_subjects,
            strategy=opened.settings.strategy,
            n_shots=opened.settings.n_shots,
            context=opened.settings.context,
            prompts=opened.prompts(reads),
            embedder=reads.constants.embedder,
            llm=opened.backends.llm_name,
            digest=opened.clustering.digest(reads),
            n_receipts=reads.state.head.number,
            receipts=str(opened.receipts.folder.path),
            scrubbed=opened.removals.are_finished(),
            bytes=opened.store.size,
        )

    return opened.read(status)


def all_examples(opened: OpenStore) -> list[Example]:
    """Return all examples, by ascending id."""
    return opened.read(Reads.all_examples)


def export_examples(opened: OpenStore, path: str | PathLike[str] | BinaryIO) -> int:
    """Write all examples to a new file, and return their number. See `Erase.export`."""
    if isinstance(path, (io.RawIOBase, io.BufferedIOBase)):
        examples = all_examples(opened)
        write_jsonl(cast("BinaryIO", path), examples)
        return len(examples)
    target = checks.path("path", path)
    if target.resolve().is_relative_to(opened.store.folder.resolve()):
        raise StoreError(
            f"{path} is inside the store's folder, where it would keep examples that are forgotten later. Choose a "
            "file outside."
        )
    examples = all_examples(opened)
    try:
        write_jsonl(target, examples)
    except FileExistsError as error:
        raise StoreError(f"{path} exists already. Choose another file.") from error
    except OSError as error:
        raise StoreError(f"{path}: {os_reason(error)}") from error
    return len(examples)
