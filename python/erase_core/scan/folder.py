"""Walks a folder, searches each of its files, and reports: `scan_folder`."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core.errors import EmbedderError, ParameterError, os_reason, printable
from erase_core.scan.content import Contents
from erase_core.scan.report import ScanReport
from erase_core.scan.searching import Searcher

if TYPE_CHECKING:
    from erase_core.embedding.sentence import Embedder

__all__ = ["scan_folder"]


def scan_folder(
    folder: str | os.PathLike[str],
    absent: str | Iterable[str] = (),
    vectors: NDArray[np.floating] | Iterable[NDArray[np.floating]] = (),
    embedder: Embedder | None = None,
) -> ScanReport:
    """Search any folder for texts and vectors that should be gone. Nothing is changed or written.

    Use it for folders of other programs: vector stores, indexes, exports, backups. docs/scanning.md describes what it
    understands, and what it does not.

    Parameters
    ----------
    folder : path
        A folder, with everything below it, or a single file.
    absent : str or iterable of str, default=()
        Texts to search for, each of at least 4 bytes.
    vectors : ndarray of shape (n_vectors, dim) or iterable of ndarray of shape (dim,), default=()
        Vectors to search for, of floats.
    embedder : Embedder or None, default=None
        Searches for the vectors of the texts, too. It must be the model that the folder's owner uses. None: the vectors
        of the texts are not searched for.

    Returns
    -------
    ScanReport

    Raises
    ------
    ParameterError
        There is no such folder, there is nothing to search for, or a text or vector cannot be searched for.
    EmbedderError
        The embedding model returned something else than vectors.
    PlatformError
        Scans do not work on this operating system.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from erase_core import scan_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "notes.txt").write_text("Ann Smith moved to Oslo")
    ...     report = scan_folder(folder, ["Ann Smith", "Bob Jones"])
    >>> report.found, report.numbers("text"), report.findings[0].place
    (True, [1], 'notes.txt')
    """
    checks.supported("a scan")
    start = time.perf_counter()
    root = checks.path("folder", folder)
    texts = checks.distinct_texts("absent", absent)
    given = _vectors(vectors)
    if not texts and not given:
        raise ParameterError("there is nothing to search for. Give texts as absent, or vectors.")
    if not root.exists():
        raise ParameterError(f"folder must be an existing folder or file, got {str(root)!r}")
    embeddings = [] if embedder is None or not texts else _embedded(embedder, texts)
    searcher = Searcher(texts, embeddings, given)
    contents = Contents(searcher)
    for path, place in _files(root, contents):
        contents.file(path, place)
    return ScanReport(
        folder=str(root),
        n_files=contents.n_files,
        n_bytes=contents.n_bytes,
        n_texts=len(texts),
        n_embeddings=len(embeddings),
        n_vectors=len(given),
        findings=list(searcher.findings.values()),
        unread=contents.unread,
        embedder=None if embedder is None else embedder.name,
        seconds=time.perf_counter() - start,
    )


def _vectors(vectors: object) -> list[NDArray[np.floating]]:
    """Return the rows of a matrix, or vectors, as a list."""
    rows = list(vectors) if isinstance(vectors, np.ndarray) and vectors.ndim == 2 else vectors
    every = checks.texts_and_vectors("vectors", rows)
    given = [each for each in every if not isinstance(each, str)]
    if len(given) < len(every):
        raise ParameterError("vectors must be arrays of floats, got a text. Give texts as absent.")
    return given


def _embedded(embedder: Embedder, texts: list[str]) -> list[NDArray[np.floating]]:
    """Return the vector of each text."""
    vectors = np.asarray(embedder.embed(texts))
    if vectors.shape != (len(texts), embedder.dim) or vectors.dtype.kind != "f" or not np.isfinite(vectors).all():
        raise EmbedderError(
            f"the embedding model {embedder.name!r} must return finite floats of shape ({len(texts)}, {embedder.dim}), "
            f"got {vectors.dtype} of shape {vectors.shape}"
        )
    return list(vectors)


def _files(root: Path, contents: Contents) -> Iterator[tuple[Path, str]]:
    """Yield all regular files of a folder with their places. Links are not followed."""
    if not root.is_dir():
        yield root, root.name
        return
    real = root.resolve()

    def failed(error: OSError) -> None:
        contents.cannot(_place(root, Path(error.filename)), f"cannot be listed: {os_reason(error)}.")

    for parent, folders, names in os.walk(root, onerror=failed):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(parent, name)
            place = _place(root, path)
            contents.name(place)
            try:
                mode = path.lstat().st_mode
            except OSError as error:
                contents.cannot(place, f"cannot be read: {os_reason(error)}.")
                continue
            if stat.S_ISLNK(mode):
                _note_link(path, place, real, contents)
            elif stat.S_ISREG(mode):
                # The index of a log has only page numbers, and closing it may end the locks of this process on it.
                if not (name.endswith("-shm") and path.with_name(name.removesuffix("-shm")).is_file()):
                    yield path, place
            elif not stat.S_ISDIR(mode):
                contents.cannot(place, "is not a regular file, and was not opened.")


def _note_link(path: Path, place: str, root: Path, contents: Contents) -> None:
    """Report a link that leads out of the folder. What it leads to within the folder is searched there."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # it leads nowhere, or to itself
        return
    if not target.is_relative_to(root):
        contents.cannot(place, "is a symbolic link out of the folder, and was not followed. Scan what it leads to.")


def _place(root: Path, path: Path) -> str:
    return printable(path.relative_to(root).as_posix() if path != root else ".")
