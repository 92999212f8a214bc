"""Collects the facts of an erasure report: `report_erasure`. Nothing is removed, and no text is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from erase_core import checks
from erase_core._core import __version__
from erase_core.calls.open_store import OpenStore
from erase_core.calls.verifying import verify_store
from erase_core.erase import Erase
from erase_core.erasure.request import Match, Request
from erase_core.erasure_report.facts import Asked, Cost, ErasureReport, Known, Searched, StoreFacts
from erase_core.erasure_report.picture import ClusterPicture, take_picture
from erase_core.erasure_report.trace import Trace, Traces, examples_and_vectors, trace
from erase_core.errors import ParameterError, printable
from erase_core.receipts.receipt import Receipt, as_receipt_ref
from erase_core.reports import ForgetReport
from erase_core.scan.folder import scan_folder
from erase_core.scan.report import ScanReport
from erase_core.store.reads import Reads
from erase_core.verify.forms import SHORTEST

__all__ = ["report_erasure", "traces_of"]

Ids = int | str | Iterable[int | str] | None
Paths = str | PathLike[str] | Iterable[str | PathLike[str]]
HIDDEN = "[hidden]"
# Ids in the sentences of `verify`: after these words, in quotes or not, and in lists.
NAMED = re.compile(r"""(?<=\bexample )(?:-?\d+\b|'(?:\\.|[^'])*'|"(?:\\.|[^"])*")|(?<=\(id )[^)]*|(?<=: )\[.*""", re.S)


def traces_of(
    erase: Erase, ids: Ids = None, *, subject: str | Iterable[str] | None = None, match: Match = "exact"
) -> Traces:
    """Return texts and vectors of the examples that a request names, to search for them after they are forgotten.

    They are in memory only. Pass them to `report_erasure` after `forget`, and drop them.

    Parameters
    ----------
    erase : Erase
    ids, subject, match
        See `Erase.forget`. What is not in the store is skipped.
    """
    request, opened = Request(ids, subject, "skip", match), erase._opened
    with opened.lock:
        return opened.read(lambda reads: examples_and_vectors(reads, request.resolve(reads).ids))


def report_erasure(
    erase: Erase,
    ids: Ids = None,
    *,
    subject: str | Iterable[str] | None = None,
    match: Match = "exact",
    removal: ForgetReport | None = None,
    traces: Traces | None = None,
    absent: Iterable[str | NDArray[np.floating]] = (),
    known: Iterable[tuple[int, str]] = (),
    folders: Paths = (),
    picture: bool = True,
    progress: bool = False,
) -> ErasureReport:
    """Report on an erasure, for a page that a privacy officer can read. Nothing is removed.

    The removals are found in the receipts, from the ids or subjects of the request, at any time after `forget`. The
    store is verified, and its files are searched for the named ids and subjects. The report and its page contain none
    of them.

    Parameters
    ----------
    erase : Erase
    ids, subject, match
        The request, as for `Erase.forget`. A removal that named a subject is found by the subject and by the ids of its
        examples; one that named ids, by ids only.
    removal : ForgetReport or None, default=None
        What `forget` returned for this request. The page then has its cost too, and how many prompts changed.
    traces : Traces or None, default=None
        What `traces_of` returned before the removal, to be searched for too.
    absent : iterable of str and of ndarray of shape (dim,), default=()
        More texts and vectors to search for, a text by its vector too. This needs the embedding model.
    known : iterable of (int, str), default=()
        See `Erase.verify`.
    folders : path or iterable of paths, default=()
        Other folders to search for all these: see `scan_folder`.
    picture : bool, default=True
        Whether the page shows a picture of the clustering. It has two rounded numbers for each example that stays, and
        must be replaced if one of these is forgotten later. There is none while examples of the request are in the
        store.
    progress : bool, default=False
        Show the progress on a terminal.

    Raises
    ------
    ParameterError, IdKindError
        The request or an argument is invalid, or `removal` is of another request.
    EmbedderError, MissingPackageError
        Texts are given as `absent`, and the embedding model cannot be loaded.
    StoreError
        The store cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from erase_core import Erase, report_erasure
    >>> letters = [
    ...     {"id": 1, "input": "where is my parcel", "output": "delivery", "subject": "customer-42"},
    ...     {"id": 2, "input": "please refund the kettle", "output": "refund", "subject": "customer-7"},
    ... ]
    >>> with tempfile.TemporaryDirectory() as folder, Erase.create(f"{folder}/store") as erase:
    ...     _ = erase.ingest(letters)
    ...     before = report_erasure(erase, subject="customer-7")
    ...     forgotten = erase.forget(subject="customer-7")
    ...     after = report_erasure(erase, subject="customer-7", removal=forgotten)
    ...     after.write(f"{folder}/report.html")
    >>> before.verdict, after.verdict, after.n_removed
    ('not forgotten', 'forgotten', 1)
    """
    request, opened = Request(ids, subject, "skip", match), erase._opened
    given = checks.texts_and_vectors("absent", absent)
    noted = [as_receipt_ref("known", each) for each in checks.several("known", known)]
    places = [folders] if isinstance(folders, (str, PathLike)) else checks.several("folders", folders)
    checks.flag("picture", picture)
    texts = [name for name in request.named if isinstance(name, str)]
    names = _searchable(texts)
    with opened.lock:
        found, clusters, facts = opened.read(lambda reads: _read(opened, reads, request, names, picture=picture))
        cost = _cost_of(removal, found.receipts)
        search = _Search(opened, found, request, names, traces or Traces([], []), given)
        verification = verify_store(
            opened, search.with_models, noted, progress=progress, without_vectors=search.without_models
        )
    scans = [search.of_folder(place) for place in places]
    masked = _mask_of(texts)
    return ErasureReport(
        made=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        software=__version__,
        asked=Asked("subject" if request.names_subjects else "ids", len(request.named), match),
        store=replace(facts, folder=masked(facts.folder), receipts=masked(facts.receipts)),
        known=Known(found.n_recorded, found.n_unknown, found.n_present, found.n_similar, found.n_mentions),
        receipts=tuple(found.receipts),
        details=tuple(_details(receipt, masked) for receipt in found.receipts),
        cost=cost,
        verification=replace(
            verification, digest="", problems=[masked(NAMED.sub(HIDDEN, text)) for text in verification.problems]
        ),
        searched=search.facts(),
        scans=tuple(_masked_scan(scan, masked) for scan in scans),
        picture=clusters,
        is_newest=found.is_newest,
    )


def _read(
    opened: OpenStore, reads: Reads, request: Request, names: Sequence[str], *, picture: bool
) -> tuple[Trace, ClusterPicture | None, StoreFacts]:
    """Read from one state of the store all but what `verify` reads."""
    facts = StoreFacts(
        folder=str(opened.store.folder.absolute()),
        receipts=str(opened.receipts.folder.path.absolute()),
        name=reads.constants.name,
        n_examples=len(reads),
        strategy=opened.settings.strategy,
    )
    found = trace(opened, reads, request, names)
    # While examples of the request are there, a picture would keep their places.
    return found, take_picture(opened, reads) if picture and not found.n_present else None, facts


def _cost_of(removal: ForgetReport | None, receipts: Sequence[Receipt]) -> Cost | None:
    if removal is None or removal.receipt is None:
        return None
    if removal.receipt.ref not in [receipt.ref for receipt in receipts]:
        raise ParameterError(
            f"removal has the receipt {removal.receipt.number}, which does not record what the request names. Give the "
            "report that `forget` returned for this request, or leave it out."
        )
    prompts = removal.prompts
    return Cost(
        removal.receipt.number, removal.seconds, removal.model_seconds, len(prompts.after), len(prompts.changed)
    )


class _Search:
    """What is searched for, and where. It has the texts, so it must not outlive the call.

    A text that is also part of an example that stays would be found in the store, and means nothing there.
    """

    def __init__(
        self,
        opened: OpenStore,
        found: Trace,
        request: Request,
        names: Sequence[str],
        traces: Traces,
        given: Sequence[str | NDArray[np.floating]],
    ) -> None:
        settings, template = opened.settings, opened.settings.prompt_template
        staying = "\0".join([*found.staying, *settings.options, *template.to_dict().values()])
        texts = {each: None for each in given if isinstance(each, str)}
        wanted = list(dict.fromkeys([*(str(name) for name in request.named), *traces.texts, *texts]))
        long = _searchable(wanted)
        integers = {str(name) for name in request.named if isinstance(name, int)}
        self._sought = [text for text in long if text not in staying and text not in integers]
        self._names = list(names)
        self._vectors: list[NDArray[np.floating]] = [
            *traces.vectors,
            *(each for each in given if not isinstance(each, str)),
        ]
        # Only those that the caller names are searched for by a vector that must be computed.
        self.with_models: list[str | NDArray[np.floating]] = [
            *(text for text in self._sought if text in texts),
            *self._vectors,
        ]
        self.without_models = [text for text in self._sought if text not in texts]
        self._n_short = len(wanted) - len(long) + len(integers & set(long))
        self._n_staying = len(long) - len(self._sought) - len(integers & set(long))
        self._folders = (opened.store.folder, opened.receipts.folder.path)

    def facts(self) -> Searched:
        """Return what was searched in the store."""
        sizes = {}
        for file in (file for folder in self._folders for file in folder.rglob("*") if file.is_file()):
            with suppress(FileNotFoundError):  # another process may delete a file
                sizes[file] = file.stat().st_size
        counts = (len(self._sought), len(self._vectors), self._n_short, self._n_staying)
        return Searched(*counts, len(sizes), round(sum(sizes.values()), -5))

    def of_folder(self, place: str | PathLike[str]) -> ScanReport:
        """Search another folder. Names are searched for there in any case."""
        texts = list(dict.fromkeys([*self._names, *self._sought]))
        if not texts and not self._vectors:
            raise ParameterError(
                f"folders: there is nothing to search for in {place}: what is named is an integer or too short. Give "
                "texts as absent (--absent-from), or leave out the folder (--scan)."
            )
        return scan_folder(place, texts, self._vectors)


def _searchable(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if len(text.encode("utf-8", "surrogatepass")) >= SHORTEST]


def _mask_of(names: Sequence[str]) -> Callable[[object], str]:
    """Return a function that hides names in a text that comes from elsewhere, such as a path.

    Names that are too short to be searched for are hidden only as whole words, and numbers among these not at all.
    """
    long = set(_searchable(names))
    longest_first = sorted(
        (name for name in names if name in long or re.search(r"[^\W\d_]", name)), key=len, reverse=True
    )
    patterns = [
        re.escape(name) if name in long else rf"(?<![^\W_]){re.escape(name)}(?![^\W_])" for name in longest_first
    ]
    pattern = re.compile("|".join(patterns) or r"(?!)", re.IGNORECASE)

    def masked(text: object) -> str:
        # Characters that change the direction of a text, or control a terminal, have no place on the page.
        seen = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in printable(str(text)))
        return pattern.sub(HIDDEN, seen)

    return masked


def _details(receipt: Receipt, masked: Callable[[object], str]) -> dict[str, dict[str, str]]:
    fields = {"parameters": receipt.parameters, "software": receipt.software, "destroyed": receipt.destroyed}
    return {
        name: {masked(key): masked(value) for key, value in sorted(values.items())} for name, values in fields.items()
    }


def _masked_scan(scan: ScanReport, masked: Callable[[object], str]) -> ScanReport:
    return replace(
        scan,
        folder=masked(Path(scan.folder).absolute()),
        findings=[replace(each, place=masked(each.place)) for each in scan.findings],
        unread=[replace(each, place=masked(each.place), reason=masked(each.reason)) for each in scan.unread],
    )
