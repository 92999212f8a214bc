"""What the facade returns: small typed objects that read well and turn into JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from erase_core.errors import printable
from erase_core.examples.example import BadRow, counted
from erase_core.receipts.receipt import Receipt, UpdatePath

__all__ = ["ForgetReport", "IngestReport", "Status", "Verification"]


@dataclass(frozen=True)
class _Report:
    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class IngestReport(_Report):
    """What an ingest did.

    Parameters
    ----------
    n_added, n_skipped, n_forgotten, n_examples : int
        Rows that came in, bad rows that were left out, rows left out because they were forgotten, examples in the
        store now.
    skipped : list of BadRow
    embedding_seconds, seconds : float
        Wall-clock time of the embedding, and of all.
    n_truncated : int, default=0
        How many of the inputs that came in have more tokens than the embedding model sees.
    longest : int or None, default=None
        Tokens of the longest of them all; None where the model does not count.
    max_tokens : int or None, default=None
        Most tokens that the model sees; None where it has no limit, or does not say.
    indistinct : list of lists of int or str, default=[]
        Ids of examples that differ only in what the model does not see: groups with different inputs of that length and
        the same vector, one of which at least came in now. The clustering cannot tell them apart.
    notes : tuple of str
        What the caller should know of the source: see `Reading`.
    n_duplicates : int
        Rows left out because the store has them already.
    """

    n_added: int
    n_skipped: int
    n_forgotten: int
    n_examples: int
    skipped: list[BadRow]
    embedding_seconds: float
    seconds: float
    n_truncated: int = 0
    longest: int | None = None
    max_tokens: int | None = None
    indistinct: list[list[int | str]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    n_duplicates: int = 0

    @property
    def n_indistinct(self) -> int:
        """How many examples look like another one to the embedding model, see `indistinct`."""
        return sum(map(len, self.indistinct))

    @property
    def unseen(self) -> str:
        """What the embedding model does not see, in one line; empty if it sees all."""
        if not self.n_truncated and not self.indistinct:
            return ""
        inputs = f"{counted(self.n_truncated, 'input')} {'is' if self.n_truncated == 1 else 'are'}"
        alike = f"; {self.n_indistinct} examples differ only beyond that" if self.indistinct else ""
        return (
            f"{inputs} longer than the {self.max_tokens} tokens that the embedding model sees (the longest has "
            f"{self.longest}){alike}"
        )

    def __str__(self) -> str:
        skipped = f", {counted(self.n_skipped, 'bad row')} left out" if self.n_skipped else ""
        was = "was" if self.n_forgotten == 1 else "were"
        skipped += f", {self.n_forgotten} left out that {was} forgotten" if self.n_forgotten else ""
        has = "is" if self.n_duplicates == 1 else "are"
        skipped += f", {self.n_duplicates} left out that {has} in the store already" if self.n_duplicates else ""
        added = counted(self.n_added, "example")
        done = f"{added} ingested{skipped}; {self.n_examples} in the store ({self.seconds:.1f} s)"
        return "\n".join([done, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class ForgetReport(_Report):
    """What forgetting did, or would do.

    Parameters
    ----------
    ids : list of int or str
        Ids of the examples. Empty if nothing that was asked for is there (``on_missing="skip"``).
    n_examples : int
        Examples that remain.
    path : {"certified", "replayed", "reseeded"} or None
        How the clustering was brought up to date; see `UpdateReport`. None if no example is affected.
    before, after : list of int or str
        Ids of the demonstrations; none of both where they depend on the query.
    model_seconds, seconds : float
        Wall-clock time of the clustering's update, and of all, files included.
    receipt : Receipt or None
        The proof; None if nothing was changed.
    dry_run : bool
        Whether this only says what would change.
    n_missing : int
        How many ids or subjects that were asked for are not in the store.
    n_similar : int
        How many other subjects of the store look like one that was asked for, and keep their examples.
    """

    ids: list[int | str]
    n_examples: int
    path: UpdatePath | None
    before: list[int | str]
    after: list[int | str]
    model_seconds: float
    seconds: float
    receipt: Receipt | None = field(default=None, repr=False)
    dry_run: bool = False
    n_missing: int = 0
    n_similar: int = 0

    @property
    def depends_on_query(self) -> bool:
        """Whether each query has demonstrations of its own."""
        return self.n_examples > 0 and not self.before and not self.after

    @property
    def n_changed(self) -> int:
        """How many demonstrations are new in the prompt."""
        return sum(id_ not in self.before for id_ in self.after)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON; of the receipt its number and hash."""
        receipt = None if self.receipt is None else {"number": self.receipt.number, "hash": self.receipt.hash}
        return {**super().to_dict(), "receipt": receipt}

    def __str__(self) -> str:
        verb = "would be forgotten" if self.dry_run else "forgotten"
        left = f"{self.n_examples} remain{'s' if self.n_examples == 1 else ''}"
        text = f"{counted(len(self.ids), 'example')} {verb}, {left}"
        if self.ids:
            is_new = f"{'is' if self.n_changed == 1 else 'are'} new"
            new = f"{self.n_changed} of {counted(len(self.after), 'demonstration')} {is_new}"
            shown = "demonstrations depend on the query" if self.depends_on_query else new
            text += f"; clustering {self.path} in {1e3 * self.model_seconds:.2f} ms, {shown}"
        if self.n_missing:
            text += f"; {self.n_missing} of what was named {'is' if self.n_missing == 1 else 'are'} not in the store"
        if self.n_similar:
            others = f"{counted(self.n_similar, 'other subject')} look{'s' if self.n_similar == 1 else ''} alike"
            text += f"; {others} and {'keeps its' if self.n_similar == 1 else 'keep their'} examples"
        return f"{text} ({1e3 * self.seconds:.0f} ms in all)"


@dataclass(frozen=True)
class Status(_Report):
    """What a store holds.

    Parameters
    ----------
    folder : str
    n_examples, n_subjects : int
    strategy : str
    n_shots : int
    demonstrations : list of int or str
        Ids of those in the prompt; empty where they depend on the query.
    embedder : str
        Identity of the embedding model.
    llm : str
        The language model that is used unless another is named.
    digest : str
        Digest of the fitted model; empty for a store without examples.
    n_receipts : int
        Removals so far.
    receipts : str
        Folder of their receipts.
    scrubbed : bool
        Whether the files hold nothing of what was forgotten; if not, the next `open` finishes the removal.
    bytes : int
        Size of the store's files.
    """

    folder: str
    n_examples: int
    n_subjects: int
    strategy: str
    n_shots: int
    demonstrations: list[int | str]
    embedder: str
    llm: str
    digest: str
    n_receipts: int
    receipts: str
    scrubbed: bool
    bytes: int

    def __str__(self) -> str:
        return printable(
            f"{self.folder}: {counted(self.n_examples, 'example')}, {counted(self.n_shots, 'shot')} by {self.strategy}"
        )


@dataclass(frozen=True)
class Verification(_Report):
    """Whether a store is what it should be.

    Parameters
    ----------
    ok : bool
        Whether nothing of what follows is wrong.
    problems : list of str
        What is wrong.
    n_examples, n_receipts, n_absent : int
        What was looked at: examples, receipts, and texts and vectors that should be in no file.
    public_keys : tuple of str
        Those that receipts are signed with.
    keys_are_named : bool
        Whether keys were named, by one of which each receipt had to be signed. Otherwise anybody's will do.
    digest : str
        Of the model; empty if there are no examples.
    snapshot_digest : str
        Of the snapshot; empty if there is none. It is a cache: another one is no problem.
    scrubbed : bool
        Whether what was forgotten has been overwritten in the files.
    detects_old_copies : bool
        Whether the receipts lie outside the store's folder, so that a copy of it from before a removal is noticed.
    seconds : float
    """

    ok: bool
    problems: list[str]
    n_examples: int
    n_receipts: int
    n_absent: int
    public_keys: tuple[str, ...]
    keys_are_named: bool
    digest: str
    snapshot_digest: str
    scrubbed: bool
    detects_old_copies: bool
    seconds: float

    def __str__(self) -> str:
        if not self.ok:
            return printable("\n".join(["NOT verified:", *self.problems]))
        absent = "; nothing of what should be absent is in a file" if self.n_absent else ""
        receipts = f"; {self.n_receipts} receipt{' is' if self.n_receipts == 1 else 's are'} in order"
        if self.public_keys:
            named = "named" if self.keys_are_named else "which nobody named"
            receipts += f", signed by {', '.join(key[:16] for key in self.public_keys)} ({named})"
        gives = "gives" if self.n_examples == 1 else "give"
        present = f"the {counted(self.n_examples, 'example')} present {gives} this very model"
        return f"verified: {present} ({self.digest[:16] or 'none'}){receipts if self.n_receipts else ''}{absent}"
