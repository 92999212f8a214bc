"""The command `erase scan`: searches any folder for texts and vectors, and prints what was found where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from erase_core.cli import output
from erase_core.cli.completion import one_of
from erase_core.cli.options import AbsentFrom, AsJson, named_and_listed
from erase_core.cli.output import show
from erase_core.errors import ParameterError, first_line, os_reason
from erase_core.progress import waiting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from erase_core.embedding.sentence import Embedder

__all__ = ["scan"]

PACKAGED = "packaged"


def scan(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of any program, or a single file.")],
    absent: Annotated[list[str] | None, typer.Option(help="A text that no file may contain; may be repeated.")] = None,
    absent_from: AbsentFrom = None,
    vectors: Annotated[
        Path | None,
        typer.Option(help="A .npy file of vectors that no file may contain: an array of floats, a vector in each row."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            help="Search for the vectors of the texts, too, by this embedding model: hub id or folder; or packaged, "
            "for the packaged model. By default, only for the texts.",
            autocompletion=one_of([PACKAGED]),
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search any folder for texts and vectors that should be gone: vector stores, indexes, exports, backups.

    Nothing is changed. The exit code is 1 if anything was found.
    """
    from erase_core.scan.folder import scan_folder
    from erase_core.verify.forms import SHORTEST

    texts = named_and_listed(absent, "--absent-from", absent_from, SHORTEST)
    if not texts and vectors is None:
        raise ParameterError("scan needs --absent, --absent-from or --vectors")
    if embedder is not None and not texts:
        raise ParameterError(
            "--embedder is for the vectors of texts, but there are none. Give --absent or --absent-from."
        )
    given = () if vectors is None else _loaded(vectors)
    with waiting("Searching"):
        report = scan_folder(folder, texts, given, None if embedder is None else _model(embedder))
    show(report.to_dict(), [str(report)], as_json=as_json)
    if not report.complete:
        n = len(report.unread)
        output.note(f"{'1 place' if n == 1 else f'{n} places'} could not be looked into, and may contain anything")
    if report.found:
        raise typer.Exit(1)


def _model(name: str) -> Embedder:
    from erase_core.embedding.sentence import SentenceEmbedder

    return SentenceEmbedder(None if name == PACKAGED else name)


def _loaded(file: Path) -> NDArray[np.floating]:
    """Return the vectors of a file. Pickled objects are refused."""
    import numpy as np

    try:
        with file.open("rb") as opened:
            array = np.lib.format.read_array(opened, allow_pickle=False)
    except OSError as error:
        raise ParameterError(f"--vectors: {file}: {os_reason(error)}") from error
    except (ValueError, EOFError) as error:
        raise ParameterError(f"--vectors: {file} is not a .npy file of floats: {first_line(error)}") from error
    if array.ndim not in (1, 2) or array.dtype.kind != "f":
        raise ParameterError(
            f"--vectors: {file} must be an array of floats with a vector in each row, got {array.dtype} of shape "
            f"{array.shape}"
        )
    return np.atleast_2d(array)
