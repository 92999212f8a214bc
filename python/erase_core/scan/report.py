"""The result of `scan_folder`: what was found where, and what could not be looked into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from erase_core.errors import printable
from erase_core.examples.example import counted
from erase_core.notebook import Table, html

__all__ = ["Kind", "ScanFinding", "ScanReport", "UnreadPlace"]

Kind = Literal["text", "embedding", "vector"]
NOUNS: dict[str, str] = {"text": "text", "embedding": "vector of a text", "vector": "vector"}
PLURALS: dict[str, str] = {"text": "texts", "embedding": "vectors of texts", "vector": "vectors"}
# Numbers of texts that a line shows.
SHOWN = 10


@dataclass(frozen=True)
class ScanFinding:
    """A text or vector found in a file.

    Parameters
    ----------
    kind : {"text", "embedding", "vector"}
        What was found: a text, the vector of a text, or a vector that was given.
    number : int
        Which one, counted from 1: in `absent` for a text and its vector, in `vectors` for a given vector.
    form : str
        The encoding in which it was found.
    place : str
        The file, relative to the folder; a member of an archive follows after ``>``, and a column in parentheses.
    offset : int
        Offset in bytes from the beginning of the place; for a column, of the value.
    whole : bool
        Whether all of it was found there, not only a piece of 128 bytes.
    """

    kind: Kind
    number: int
    form: str
    place: str
    offset: int
    whole: bool


@dataclass(frozen=True)
class UnreadPlace:
    """What could not be looked into. Files are searched as raw bytes anyway, unless they cannot be read.

    Parameters
    ----------
    place : str
    reason : str
        Why, and what to do.
    """

    place: str
    reason: str


@dataclass(frozen=True)
class ScanReport:
    """The result of `scan_folder`.

    Parameters
    ----------
    folder : str
    n_files, n_bytes : int
        Number and size of the files that were searched.
    n_texts, n_embeddings, n_vectors : int
        How many were searched for: texts, vectors of these texts, and vectors that were given.
    findings : list of ScanFinding
        The first place of each encoding in each file or column. Empty if nothing was found.
    unread : list of UnreadPlace
        What could not be looked into. Nothing is known about its content.
    embedder : str or None
        Name of the embedding model. None: the vectors of the texts were not searched for.
    seconds : float
        Wall-clock time.
    """

    folder: str
    n_files: int
    n_bytes: int
    n_texts: int
    n_embeddings: int
    n_vectors: int
    findings: list[ScanFinding] = field(default_factory=list)
    unread: list[UnreadPlace] = field(default_factory=list)
    embedder: str | None = None
    seconds: float = 0.0

    @property
    def found(self) -> bool:
        """Whether anything was found."""
        return bool(self.findings)

    @property
    def complete(self) -> bool:
        """Whether everything could be looked into."""
        return not self.unread

    def numbers(self, kind: Kind) -> list[int]:
        """Return the numbers of the texts or vectors that were found, in order."""
        return _numbers(finding for finding in self.findings if finding.kind == kind)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict for JSON, with `found` and `complete`."""
        return {"found": self.found, "complete": self.complete, **asdict(self)}

    def __str__(self) -> str:
        return printable("\n".join(self._lines()))

    def _repr_html_(self) -> str:
        """Return tables of what was found, and of what could not be looked into, for notebooks."""
        names = [each.name for each in fields(self) if each.name not in ("findings", "unread")]
        values = {name.replace("_", " "): getattr(self, name) for name in names}
        columns = [each.name for each in fields(ScanFinding)]
        found = Table("Found", columns, [list(asdict(finding).values()) for finding in self.findings])
        unread = Table(
            "Could not be looked into", ["place", "reason"], [[each.place, each.reason] for each in self.unread]
        )
        return html(str(self), {"found": self.found, "complete": self.complete, **values}, [found, unread])

    def _lines(self) -> Iterator[str]:
        size = f"{counted(self.n_files, 'file')}, {self.n_bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        sought: dict[Kind, int] = {"text": self.n_texts, "embedding": self.n_embeddings, "vector": self.n_vectors}
        parts = [f"{len(self.numbers(kind))} of {_named(kind, n)}" for kind, n in sought.items() if n]
        yield f"{'FOUND' if self.found else 'not found'} in {self.folder}: {', '.join(parts)} ({size})"
        places: dict[tuple[str, Kind], list[ScanFinding]] = {}
        for finding in self.findings:
            places.setdefault((finding.place, finding.kind), []).append(finding)
        for (place, kind), findings in places.items():
            yield f"{place}: {_described(kind, findings)}"
        if self.n_texts and not self.n_embeddings and not self.n_vectors:
            yield "note: only the texts were searched for, not their vectors: neither a model nor vectors were given"
        if self.unread:
            places_ = "1 place" if len(self.unread) == 1 else f"{len(self.unread)} places"
            yield f"NOT complete: {places_} could not be looked into:"
        for unread in self.unread:
            yield f"{unread.place}: {unread.reason}"


def _described(kind: Kind, findings: list[ScanFinding]) -> str:
    numbers = _numbers(findings)
    whole = _numbers(finding for finding in findings if finding.whole)
    shown = ", ".join(map(str, numbers[:SHOWN])) + (", ..." if len(numbers) > SHOWN else "")
    partly = f", {len(numbers) - len(whole)} only in part" if len(whole) < len(numbers) else ""
    forms = ", ".join(dict.fromkeys(finding.form for finding in findings))
    number = "number" if len(numbers) == 1 else "numbers"
    return f"{_named(kind, len(numbers))} ({number} {shown}{partly}), as {forms}; first at byte {findings[0].offset}"


def _named(kind: Kind, count: int) -> str:
    return f"{count} {NOUNS[kind] if count == 1 else PLURALS[kind]}"


def _numbers(findings: Iterable[ScanFinding]) -> list[int]:
    return sorted({finding.number for finding in findings})
