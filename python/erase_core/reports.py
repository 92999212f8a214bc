"""The results of `Erase`: small typed objects that print as a sentence and convert to JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from itertools import chain, zip_longest
from typing import Any, ClassVar

from erase_core.errors import printable
from erase_core.examples.example import BadRow, counted
from erase_core.notebook import Table, changed_ids, html
from erase_core.receipts.receipt import Receipt, UpdatePath

__all__ = ["ForgetReport", "IngestReport", "PromptChanges", "Route", "Status", "Verification", "WarmReport"]


@dataclass(frozen=True)
class _Report:
    # Fields that HTML shows otherwise.
    _apart: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict for JSON."""
        return asdict(self)

    def _values(self) -> dict[str, object]:
        shown = [each.name for each in fields(self) if each.name not in self._apart]
        return {name.replace("_", " "): getattr(self, name) for name in shown}

    def _tables(self) -> list[Table]:
        return []

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        return html(str(self), self._values(), self._tables())


@dataclass(frozen=True)
class PromptChanges(_Report):
    """What a change of the store did to its prompts.

    A prompt is the list of the ids of its demonstrations, in order. There is one that all queries share, or with
    ``strategy="routed"`` one for each cluster.

    Parameters
    ----------
    before, after : list of lists of int or str
        All prompts before and after the change. Empty if every query has one of its own (``strategy="knn"``). `before`
        is empty, too, if it is unknown because examples could not be opened. A store without examples has one prompt,
        without demonstrations.

    Attributes
    ----------
    changed : list of int
        Indexes of the prompts in `after` that are not in `before`.
    """

    before: list[list[int | str]] = field(default_factory=list)
    after: list[list[int | str]] = field(default_factory=list)
    changed: list[int] = field(init=False)

    def __post_init__(self) -> None:
        known = set(map(tuple, self.before))
        changed = [index for index, prompt in enumerate(self.after) if tuple(prompt) not in known]
        object.__setattr__(self, "changed", changed)

    def _tables(self) -> list[Table]:
        """Return a table of the prompts that changed, with the ids that went and those that came."""
        rows: list[list[object]] = []
        for index, (before, after) in enumerate(zip_longest(self.before, self.after)):
            if after is None or index in self.changed:
                went, came = changed_ids(before or [], after or [])
                rows.append([index, went if self.before else "not known", came])
        return [Table("Prompts that changed, by the ids of their demonstrations", ["prompt", "before", "after"], rows)]

    def _values(self) -> dict[str, object]:
        if self.depend_on_query:
            return {}
        return {"out of the prompts": self.removed, "into the prompts": self.added}

    @property
    def depend_on_query(self) -> bool:
        """Whether every query has a prompt of its own."""
        return not self.after

    @property
    def removed(self) -> list[int | str]:
        """The ids that no prompt shows any more."""
        return _in_first_only(self.before, self.after)

    @property
    def added(self) -> list[int | str]:
        """The ids that no prompt showed before."""
        return _in_first_only(self.after, self.before)

    def __str__(self) -> str:
        if self.depend_on_query:
            return "demonstrations depend on the query"
        if not self.before:
            return "the prompts before the change are not known"
        if len(self.after) == 1:
            n_new = len(self.added)
            return f"{n_new} of {counted(len(self.after[0]), 'demonstration')} {'is' if n_new == 1 else 'are'} new"
        which = f" ({', '.join(map(str, self.changed))})" if self.changed else ""
        return f"{len(self.changed)} of {len(self.after)} prompts changed{which}"


def _in_first_only(some: list[list[int | str]], others: list[list[int | str]]) -> list[int | str]:
    known = set(chain(*others))
    return [id_ for id_ in dict.fromkeys(chain(*some)) if id_ not in known]


@dataclass(frozen=True)
class IngestReport(_Report):
    """The result of `Erase.ingest`.

    Parameters
    ----------
    n_added : int
        Examples added.
    n_skipped : int
        Bad rows left out.
    n_forgotten : int
        Rows left out because they were forgotten earlier.
    n_examples : int
        Examples in the store now.
    skipped : list of BadRow
        The bad rows that were left out.
    embedding_seconds, seconds : float
        Wall-clock time of the embedding, and of the whole call.
    n_truncated : int, default=0
        How many added inputs have more tokens than the embedding model reads.
    longest : int or None, default=None
        Number of tokens of the longest added input. None if the model does not count tokens.
    max_tokens : int or None, default=None
        Most tokens that the embedding model reads. None if there is no limit, or it is unknown.
    indistinct : list of lists of int or str, default=[]
        Groups of ids whose inputs differ only beyond `max_tokens`, so their vectors are equal and the clustering cannot
        distinguish them. Each group contains at least one added example.
    notes : tuple of str
        Notes on the source: see `Reading`.
    n_duplicates : int
        Rows left out because the store contains them already.
    prompts : PromptChanges
        What the added examples did to the prompts.
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
    prompts: PromptChanges = field(default_factory=PromptChanges)
    _apart = ("prompts",)

    @property
    def n_indistinct(self) -> int:
        """Number of examples in `indistinct`: those that the embedding model cannot distinguish from another."""
        return sum(map(len, self.indistinct))

    def _values(self) -> dict[str, object]:
        return {**super()._values(), **self.prompts._values()}

    def _tables(self) -> list[Table]:
        return self.prompts._tables()

    @property
    def unseen(self) -> str:
        """One line on the inputs that the embedding model truncates; empty if there are none."""
        if not self.n_truncated and not self.indistinct:
            return ""
        inputs = f"{counted(self.n_truncated, 'input')} {'is' if self.n_truncated == 1 else 'are'}"
        alike = f"; {self.n_indistinct} examples differ only beyond that" if self.indistinct else ""
        return (
            f"{inputs} longer than the {self.max_tokens} tokens that the embedding model reads (the longest has "
            f"{self.longest}){alike}"
        )

    def __str__(self) -> str:
        skipped = f", {counted(self.n_skipped, 'bad row')} left out" if self.n_skipped else ""
        was = "was" if self.n_forgotten == 1 else "were"
        skipped += f", {self.n_forgotten} left out that {was} forgotten" if self.n_forgotten else ""
        has = "is" if self.n_duplicates == 1 else "are"
        skipped += f", {self.n_duplicates} left out that {has} in the store already" if self.n_duplicates else ""
        added = counted(self.n_added, "example")
        shown = f", {self.prompts}" if self.prompts.changed else ""
        done = f"{added} ingested{skipped}; {self.n_examples} in the store{shown} ({self.seconds:.1f} s)"
        return "\n".join([done, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class ForgetReport(_Report):
    """The result of `Erase.forget`: what it removed or, with `dry_run`, would remove.

    Parameters
    ----------
    ids : list of int or str
        Ids of the removed examples. Empty if none was found (``on_missing="skip"``).
    n_examples : int
        Examples that remain.
    path : {"certified", "replayed", "reseeded"} or None
        How the clustering was updated: see `UpdateReport`. None if no example was removed.
    prompts : PromptChanges
        What the removal did to the prompts.
    model_seconds, seconds : float
        Wall-clock time of the clustering's update, and of the whole call with all files.
    receipt : Receipt or None
        The receipt of the removal. None if nothing was removed.
    dry_run : bool
        Whether this is a preview and nothing was changed.
    n_missing : int
        How many of the requested ids or subjects are not in the store.
    n_similar : int
        How many other subjects in the store look like a requested one. Their examples were not removed.
    """

    ids: list[int | str]
    n_examples: int
    path: UpdatePath | None
    prompts: PromptChanges
    model_seconds: float
    seconds: float
    receipt: Receipt | None = field(default=None, repr=False)
    dry_run: bool = False
    n_missing: int = 0
    n_similar: int = 0
    _apart = ("prompts", "receipt")

    def _values(self) -> dict[str, object]:
        number = None if self.receipt is None else f"{self.receipt.number}:{self.receipt.hash}"
        return {**super()._values(), "receipt": number, **self.prompts._values()}

    def _tables(self) -> list[Table]:
        return self.prompts._tables()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict for JSON; the receipt is its number and hash."""
        receipt = None if self.receipt is None else {"number": self.receipt.number, "hash": self.receipt.hash}
        return {**super().to_dict(), "receipt": receipt}

    def __str__(self) -> str:
        verb = "would be forgotten" if self.dry_run else "forgotten"
        left = f"{self.n_examples} remain{'s' if self.n_examples == 1 else ''}"
        text = f"{counted(len(self.ids), 'example')} {verb}, {left}"
        if self.ids:
            text += f"; clustering {self.path} in {1e3 * self.model_seconds:.2f} ms, {self.prompts}"
        if self.n_missing:
            text += f"; {self.n_missing} of those requested {'is' if self.n_missing == 1 else 'are'} not in the store"
        if self.n_similar:
            others = f"{counted(self.n_similar, 'other subject')} look{'s' if self.n_similar == 1 else ''} alike"
            text += f"; {others} and {'keeps its' if self.n_similar == 1 else 'keep their'} examples"
        return f"{text} ({1e3 * self.seconds:.0f} ms in all)"


@dataclass(frozen=True)
class Route(_Report):
    """The result of `Erase.route`: which prompt a query gets.

    Parameters
    ----------
    prompt : int
        Index of the prompt, from 0.
    n_prompts : int
        Number of prompts in the store: `n_prompts` of its settings, or less if it has fewer examples.
    demonstrations : list of int or str
        Ids of the prompt's demonstrations, in order.
    distance : float or None
        Distance of the query's vector to the centre of the prompt's cluster, after projection. None for a store without
        examples.
    margin : float or None
        How much farther the second nearest centre is. None if there is no other.
    """

    prompt: int
    n_prompts: int
    demonstrations: list[int | str]
    distance: float | None
    margin: float | None

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.demonstrations)) or "none"
        text = f"prompt {self.prompt} of {self.n_prompts}, demonstrations {shown}"
        text += "" if self.distance is None else f"; distance {self.distance:.3f}"
        return printable(text + ("" if self.margin is None else f", the next centre is {self.margin:.3f} farther"))


@dataclass(frozen=True)
class Status(_Report):
    """The result of `Erase.status`: the contents of a store.

    Parameters
    ----------
    folder : str
    n_examples, n_subjects : int
    strategy : str
    n_shots : int
    context : {"auto", "joint", "windows"}
        How the language model reads demonstrations: see `Settings`.
    options : tuple of str
        Answers to choose from if a call gives none.
    template : dict of str to str
        Texts of the prompt.
    prompts : list of lists of int or str
        All prompts that a query can get, as the ids of their demonstrations: one, or with ``strategy="routed"`` one for
        each cluster. Empty if every query has one of its own.
    embedder : str
        Name of the embedding model.
    llm : str
        Name of the language model in use.
    base_url : str or None
        Address of the store's model server. None: its model is in this process.
    server : dict of str to JSON values, or None
        Options for requests to that server, as this handle uses them. They have the name of the environment variable
        with the server's key, but never the key.
    digest : str
        Digest of the fitted model. Empty for a store without examples.
    n_receipts : int
        Number of receipts, one for each removal.
    receipts : str
        Folder of the receipts.
    scrubbed : bool
        Whether the keys of all removed examples are destroyed, and their receipts published. If not, the next `open`
        finishes that.
    bytes : int
        Size of the store's files in bytes.
    """

    folder: str
    n_examples: int
    n_subjects: int
    strategy: str
    n_shots: int
    context: str
    options: tuple[str, ...]
    template: dict[str, str]
    prompts: list[list[int | str]]
    embedder: str
    llm: str
    base_url: str | None
    server: dict[str, Any] | None
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
    """The result of `Erase.verify`: whether a store is consistent, and what was checked.

    Parameters
    ----------
    ok : bool
        Whether no problem was found.
    problems : list of str
        The problems found.
    n_examples, n_receipts, n_absent : int
        How many were checked: examples, receipts, and the texts and vectors that must not be in any file.
    public_keys : tuple of str
        The keys that the receipts are signed with.
    keys_are_named : bool
        Whether the caller named the keys that may sign receipts. If not, a signature by any key is accepted.
    digest : str
        Digest of the model. Empty if there are no examples.
    scrubbed : bool
        Whether the keys of all removed examples are destroyed, and their receipts published.
    detects_old_copies : bool
        Whether the receipts lie outside the store's folder. Only then is an old copy of the whole folder detected.
    seconds : float
        Wall-clock time of the call.
    """

    ok: bool
    problems: list[str]
    n_examples: int
    n_receipts: int
    n_absent: int
    public_keys: tuple[str, ...]
    keys_are_named: bool
    digest: str
    scrubbed: bool
    detects_old_copies: bool
    seconds: float

    def __str__(self) -> str:
        if not self.ok:
            return printable("\n".join(["NOT verified:", *self.problems]))
        absent = "; nothing that should be absent was found in a file" if self.n_absent else ""
        receipts = f"; {self.n_receipts} receipt{' is' if self.n_receipts == 1 else 's are'} valid"
        if self.public_keys:
            named = "a named key" if self.keys_are_named else "no key was named, so any is accepted"
            receipts += f", signed by {', '.join(key[:16] for key in self.public_keys)} ({named})"
        gives = "gives" if self.n_examples == 1 else "give"
        present = f"the {counted(self.n_examples, 'example')} {gives} exactly this model"
        return f"verified: {present} ({self.digest[:16] or 'none'}){receipts if self.n_receipts else ''}{absent}"


@dataclass(frozen=True)
class WarmReport(_Report):
    """The result of `Erase.warm`: what was computed before it is asked for.

    Parameters
    ----------
    n_computed, n_present : int
        Windows of examples that were computed, and that were in files already.
    n_too_long : int
        Examples without a window, since they do not fit into the language model's context.
    n_prompts_run, n_prompts_kept : int
        Prompts that queries share: those that were run, and those that the language model keeps in memory now.
    bytes : int
        Size of the files with windows.
    seconds : float
        Wall-clock time of the call.
    """

    n_computed: int
    n_present: int
    n_too_long: int
    n_prompts_run: int
    n_prompts_kept: int
    bytes: int
    seconds: float

    def __str__(self) -> str:
        took = f" ({self.seconds:.1f} s)"
        if self.n_prompts_run:
            ran, kept = counted(self.n_prompts_run, "prompt"), self.n_prompts_kept
            if kept == self.n_prompts_run:
                return f"{ran} run; kept in the memory of this process{took}"
            return f"{ran} run; the memory that the language model may use holds {kept} of them{took}"
        if not (self.n_computed or self.n_present or self.n_too_long):
            return f"nothing to compute: no examples, or no windows of them{took}"
        long = f", {counted(self.n_too_long, 'example')} too long for the model" if self.n_too_long else ""
        there = f"{self.n_present} {'was' if self.n_present == 1 else 'were'} there already"
        computed = f"{counted(self.n_computed, 'window')} computed, {there}{long}"
        return f"{computed}; {self.bytes / 1e6:.1f} MB on disk{took}"
