"""The contract of the facade: whatever was done to a store, it shows what a new one shows that was given the survivors.

A hypothesis state machine looks for the corners, with up to two handles on one store and its snapshot being damaged.
What goes wrong with the files themselves is test_store's business.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from erase_core.erase import Erase
from erase_core.errors import (
    DuplicateIdError,
    EmbedderError,
    ExampleError,
    ForgottenError,
    IdKindError,
    UnknownIdError,
    UnknownSubjectError,
)
from erase_core.examples.example import AnyExample, Example, NewExample
from erase_core.reports import PromptChanges
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from small_stores import (
    FAST_FOLDER,
    QUERIES,
    WORDS,
    CountingLLM,
    Id,
    Seen,
    WordEmbedder,
    check_refused,
    create,
    fresh,
    seen,
)

INT_IDS: list[Id] = [-(2**63), -(2**32), -7, -1, *range(10), 2**32, 2**53 + 1, 2**63 - 1]
TEXT_IDS: list[Id] = ["a", "b", "Z", "aa", "row-10", "row-9", "\u00e9", "e\u0301", "\uffff", "\U00010000"]
TEXT_IDS += [" ", "-1", "0", "1", "01", "1.0", "x" * 70, "%", "'"]
AXES = ((1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5), (0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0))
SUBJECTS = [None, "ann", "bob", "Ann"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
strategies = st.sampled_from(
    [{"strategy": "kmeans"}, {"strategy": "knn"}, {"strategy": "random"}]
    + [{"strategy": "routed", "n_prompts": n_prompts} for n_prompts in (1, 2, 4, 16)]
)
drawn_settings = st.fixed_dictionaries(
    {
        "n_shots": st.integers(1, 5),
        "seed": st.sampled_from([0, 1, 2**64 - 1]),
        "epsilon": st.sampled_from([0.001, 0.3, 1.0]),
        "projection": st.sampled_from([None, 3, AXES]),
    }
).flatmap(lambda others: strategies.map(lambda strategy: {**strategy, **others}))


def content(example: AnyExample) -> tuple[str, object]:
    """By which an example without an id is known again."""
    return "content", (example.input, example.output, example.rationale, example.subject)


def tokens(example: AnyExample) -> set[tuple[str, object]]:
    """By which an example that is to come in is known again."""
    own = content(example) if example.id is None else ("id", str(example.id))
    return {own} if example.subject is None else {own, ("subject", example.subject)}


class Contract(RuleBasedStateMachine):
    """One store, one or two handles on it, and the examples that it should hold."""

    fresh: ClassVar[dict[Any, Seen]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir=FAST_FOLDER)
        self.path = Path(self.directory.name) / "store"
        self.settings: dict[str, Any] = {}
        self.examples: dict[Id, Example] = {}
        self.gone: list[Example] = []
        self.refused: set[tuple[str, object]] = set()
        self.ids = INT_IDS
        self.handles: list[Erase] = []
        self.embedder = WordEmbedder()

    def teardown(self) -> None:
        for handle in self.handles:
            handle.close()
        self.directory.cleanup()

    @initialize(settings=drawn_settings, ids=st.sampled_from([INT_IDS, TEXT_IDS]))
    def create(self, settings: dict[str, Any], ids: list[Id]) -> None:
        self.settings, self.ids = settings, ids
        self.handles = [create(self.path, **settings, embedder=self.embedder)]

    def open(self) -> Erase:
        return Erase.open(self.path, embedder=self.embedder, llm=CountingLLM())

    def one(self, data: st.DataObject) -> Erase:
        return data.draw(st.sampled_from(self.handles))

    # ---- in ----
    def _absent(self, data: st.DataObject, most: int) -> list[Id]:
        absent = [id_ for id_ in self.ids if id_ not in self.examples]
        return data.draw(st.lists(st.sampled_from(absent), unique=True, min_size=1, max_size=most))

    def _ingest(self, data: st.DataObject, new: list[Example]) -> None:
        handle, known = self.one(data), set().union(*map(tokens, new)) & self.refused
        if known:
            check_refused(handle, lambda: handle.ingest(new), ForgottenError, " of ", "skip")
            # Once it is allowed it is refused neither by its id nor by its content.
            self.refused -= known | {content(example) for example in new}
        report = handle.ingest(new, on_forgotten="allow" if known else "refuse")
        self.examples |= {example.id: example for example in new if example.id is not None}
        assert (report.n_added, report.n_skipped, report.n_examples) == (len(new), 0, len(self.examples))

    @precondition(lambda self: len(self.examples) < 12)
    @rule(data=st.data())
    def ingest(self, data: st.DataObject) -> None:
        subjects = st.sampled_from(SUBJECTS)
        ids = self._absent(data, 4)
        self._ingest(data, [Example(i, data.draw(texts), data.draw(texts), None, data.draw(subjects)) for i in ids])

    @precondition(lambda self: self.gone and len(self.examples) < 12)
    @rule(data=st.data())
    def ingest_again_under_another_id(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from(self.gone))
        self._ingest(data, [Example(self._absent(data, 1)[0], again.input, again.output, None, again.subject)])

    @precondition(lambda self: self.ids is INT_IDS and 2**63 - 1 not in self.examples and len(self.examples) < 12)
    @rule(data=st.data(), inputs=st.lists(texts, min_size=1, max_size=2))
    def ingest_without_ids(self, data: st.DataObject, inputs: list[str]) -> None:
        first = max((id_ for id_ in self.examples if isinstance(id_, int)), default=-1) + 1
        free = (id_ for id_ in count(first) if ("id", str(id_)) not in self.refused)
        report = self.one(data).ingest([{"input": text, "output": "an answer"} for text in inputs], on_forgotten="skip")
        new = [NewExample(input=text, output="an answer") for text in inputs]
        coming = [example for example in new if not tokens(example) & self.refused]
        assert (report.n_added, report.n_forgotten) == (len(coming), len(new) - len(coming))
        numbered = [example.numbered(next(free)) for example in coming]
        self.examples |= {example.id: example for example in numbered}

    # ---- out ----
    def _forgotten(self, report: Any, gone: list[Id]) -> None:
        assert report.ids == sorted(gone, key=report.ids.index)
        assert report.n_examples == len(self.examples) - len(gone)
        for id_ in gone:
            self.gone.append(example := self.examples.pop(id_))
            self.refused |= {("id", str(id_)), content(example)}

    @precondition(lambda self: self.examples)
    @rule(data=st.data(), form=st.sampled_from([list, tuple, iter, lambda ids: ids + ids[:1]]))
    def forget_ids(self, data: st.DataObject, form: Callable[[list[Id]], Any]) -> None:
        gone = data.draw(st.lists(st.sampled_from(list(self.examples)), unique=True, min_size=1, max_size=4))
        self._forgotten(self.one(data).forget(form(gone)), gone)

    @precondition(lambda self: self.examples)
    @rule(data=st.data())
    def forget_a_demonstration_by_its_bare_id(self, data: st.DataObject) -> None:
        handle = self.one(data)
        gone = data.draw(st.sampled_from(handle.demonstrations(QUERIES[0])))
        assert gone.id is not None
        self._forgotten(handle.forget(ids=gone.id), [gone.id])

    @precondition(lambda self: any(example.subject for example in self.examples.values()))
    @rule(data=st.data())
    def forget_a_subject(self, data: st.DataObject) -> None:
        subject = data.draw(st.sampled_from(sorted({e.subject for e in self.examples.values() if e.subject})))
        gone = [id_ for id_, example in self.examples.items() if example.subject == subject]
        self._forgotten(self.one(data).forget(subject=subject), gone)
        self.refused.add(("subject", subject))

    @precondition(lambda self: self.examples)
    @rule(data=st.data())
    def forget_all_and_change_the_kind_of_ids(self, data: st.DataObject) -> None:
        self._forgotten(self.one(data).forget(list(self.examples)), list(self.examples))
        self.ids = TEXT_IDS if self.ids is INT_IDS else INT_IDS

    # ---- what changes nothing ----
    @precondition(lambda self: self.examples)
    @rule(data=st.data())
    def dry_run_tells_what_the_run_would_do(self, data: st.DataObject) -> None:
        gone = data.draw(st.lists(st.sampled_from(list(self.examples)), unique=True, min_size=1, max_size=4))
        report = self.one(data).forget(gone, dry_run=True)
        survivors = [example for id_, example in self.examples.items() if id_ not in gone]
        assert (report.dry_run, report.n_examples) == (True, len(survivors))
        prompts = [self.expected(each).status["prompts"] for each in (list(self.examples.values()), survivors)]
        assert report.prompts == PromptChanges(*prompts)

    @rule()
    def reopen(self) -> None:
        for handle in self.handles:
            handle.close()
        self.handles = [self.open()]

    @precondition(lambda self: len(self.handles) < 2)
    @rule()
    def open_another(self) -> None:
        self.handles.append(self.open())

    @rule(form=st.sampled_from(["none", "empty", "short", "garbage", "flipped"]), again=st.booleans())
    def damage_the_snapshot(self, form: str, again: bool) -> None:
        snapshot = self.path / "model.qkm"
        content = snapshot.read_bytes() if snapshot.exists() else b""
        middle = len(content) // 2
        flipped = content[:middle] + bytes(byte ^ 1 for byte in content[middle : middle + 1]) + content[middle + 1 :]
        forms = {"empty": b"", "short": content[:-1], "garbage": b"\xff" * 100, "flipped": flipped}
        snapshot.unlink(missing_ok=True)
        if form in forms:
            snapshot.write_bytes(forms[form])
        if again:
            self.reopen()

    @precondition(lambda self: (self.path / "model.qkm").exists() and self.examples)
    @rule(data=st.data(), again=st.booleans())
    def bring_an_old_snapshot_back(self, data: st.DataObject, again: bool) -> None:
        old = self.path.with_name("old")
        shutil.copy(self.path / "model.qkm", old)
        self.forget_ids(data, list)
        shutil.move(old, self.path / "model.qkm")
        if again:
            self.reopen()

    @precondition(lambda self: self.examples)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        handle, known = self.one(data), data.draw(st.sampled_from(list(self.examples)))
        new: Id = "quite new" if self.ids is TEXT_IDS else 10**9 + 1
        other: Id = 10**9 + 2 if self.ids is TEXT_IDS else "quite other"
        good = Example(new, "a good one", "yes")
        self.embedder.fails = {"stop": KeyboardInterrupt(), "fail": EmbedderError("the model fell over")}
        for rows, error in [
            ([good, Example(known, "known", "yes")], DuplicateIdError),
            ([good, good], ExampleError),
            ([Example(other, "other", "yes")], IdKindError),
            ([good, {"id": 4, "input": " ", "output": "yes"}], ExampleError),
            ([good, Example(new, "stop", "yes")][1:], KeyboardInterrupt),
            ([good, Example(f"{new}!" if isinstance(new, str) else 10**9, "fail", "yes")], EmbedderError),
        ]:
            check_refused(handle, lambda rows=rows: handle.ingest(rows), error)  # type: ignore[misc]
        check_refused(handle, lambda: handle.forget([known, new]), UnknownIdError)
        check_refused(handle, lambda: handle.forget(other), UnknownIdError)
        check_refused(handle, lambda: handle.forget(subject="nobody"), UnknownSubjectError)

    # ---- the law ----
    def expected(self, survivors: list[Example]) -> Seen:
        key = (tuple(self.settings.values()), frozenset(survivors))
        if key not in self.fresh:
            self.fresh[key] = fresh(survivors, **self.settings)
        return self.fresh[key]

    @invariant()
    def shows_what_a_new_store_of_the_survivors_shows(self) -> None:
        expected = self.expected(list(self.examples.values()))
        for handle in self.handles:
            assert seen(handle) == expected
        assert self.handles[0].verify().digest == expected.status["digest"]


TestContract = Contract.TestCase
TestContract.settings = settings(stateful_step_count=25)
