"""The calls `status`, `examples` and `export`, which read the store as a whole."""

from __future__ import annotations

import io
from dataclasses import asdict
from os import PathLike
from typing import BinaryIO, cast

import numpy as np

from erase_core import checks
from erase_core.calls.open_store import OpenStore
from erase_core.errors import EraseError, StoreError, os_reason, printable
from erase_core.examples.example import Example, counted
from erase_core.examples.formats import write_jsonl
from erase_core.reports import Status
from erase_core.store.reads import Reads

__all__ = ["all_examples", "all_ids", "described", "export_examples", "has_id", "status_of"]


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
            options=opened.settings.options,
            template=opened.settings.prompt_template.to_dict(),
            prompts=opened.prompts(reads),
            embedder=reads.constants.embedder,
            llm=opened.backends.llm_name,
            base_url=opened.settings.base_url,
            server=None if opened.settings.base_url is None else asdict(opened.backends.server),
            digest=opened.clustering.digest(reads),
            n_receipts=reads.state.head.number,
            receipts=str(opened.receipts.folder.path),
            scrubbed=opened.removals.are_finished(),
            bytes=opened.store.size,
        )

    return opened.read(status)


def described(opened: OpenStore) -> str:
    """Return one line on a store, whatever its state is. It waits for nothing, and changes nothing."""
    folder, settings, constants = str(opened.store.folder), opened.settings, opened.store.constants
    shown = f"{counted(settings.n_shots, 'shot')} by {settings.strategy}"
    try:
        models = f"embedder {constants.embedder!r}, llm {opened.backends.llm_name!r}"
    except Exception:  # of a model of the caller's
        models = f"embedder {constants.embedder!r}"
    return printable(f"<Erase {folder!r}: {_contents(opened)}, {shown}, {models}>")


def _contents(opened: OpenStore) -> str:
    if opened.store.is_closed:
        return "closed"
    if not opened.lock.acquire(blocking=False):
        return "in use by another thread"
    try:
        with opened.store.reading() as reads:
            return counted(len(reads), "example")
    except Exception as error:  # of a store that was moved or damaged, in whatever way
        return f"not readable ({type(error).__name__})"
    finally:
        opened.lock.release()


def has_id(opened: OpenStore, value: object) -> bool:
    """Whether a value is the id of an example. See `Erase.__contains__`."""
    try:
        ids = checks.distinct_ids([value])  # type: ignore[list-item]
    except EraseError:  # no store can have it
        return False
    return opened.read(lambda reads: bool(reads.present(ids)))


def all_ids(opened: OpenStore) -> list[int | str]:
    """Return the ids of all examples, ascending."""
    model = opened.read(opened.clustering.current)
    return [] if model is None else sorted(np.asarray(model.ids(), dtype=object).tolist())


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
