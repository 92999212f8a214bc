"""`warm`: windows in files change no answer, whatever happens to the files, and are gone with their examples."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
from erase_core.calls import warming
from erase_core.erase import Erase
from erase_core.errors import LLMError, StoreError, StoreLockedError
from erase_core.examples.example import Example
from erase_core.llm import TransformersLLM
from erase_core.llm.prompt import Prompt, Template
from erase_core.store.window_files import WindowFiles, WindowKey
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sealed_by_hand import opened_window, slots_in
from small_models import CONTEXT, make_model
from small_stores import CountingLLM, Elsewhere, WordEmbedder, create, example, new_path, parts_of, some

pytest.importorskip("torch", reason="needs torch: pip install 'erase-core[llm]'")
pytest.importorskip("transformers", reason="needs transformers: pip install 'erase-core[llm]'")

QUERIES = ("where is my parcel", "refund the late parcel please", "broken")
OPTIONS = ("yes", "no", "perhaps not")


def store(path: Path, llm: Any, examples: Sequence[Example] = (), **settings: Any) -> Erase:
    return create(path, examples, llm=llm, options=OPTIONS, **{"strategy": "knn", **settings})


def answers(erase: Erase) -> list[Any]:
    return [(erase.choose(query).scores, erase.ask(query, max_tokens=3).text) for query in QUERIES]


def runs_of(llm: TransformersLLM) -> list[int]:
    """The numbers of tokens of the model's runs from now on."""
    runs: list[int] = []
    llm._memory.model.register_forward_pre_hook(
        lambda _module, _args, inputs: runs.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    return runs


def files_of(erase: Erase) -> WindowFiles:
    return parts_of(erase).store.windows


def kept_ids(llm: TransformersLLM) -> set[Any]:
    return {id_ for kept in llm._memory._kept.values() for id_ in kept.ids}


@pytest.fixture
def llm(folders: Callable[[str], Path]) -> TransformersLLM:
    return TransformersLLM(folders("llama"))


# ---- answers ----
def test_answers_have_the_bits_of_windows_in_memory_and_of_a_fresh_store(
    path: Path, folders: Callable[[str], Path]
) -> None:
    examples = some(12)
    with new_path() as other, store(other, TransformersLLM(folders("llama")), examples) as fresh:
        expected = answers(fresh)
    with store(path, TransformersLLM(folders("llama")), examples) as erase:
        assert answers(erase) == expected
        report = erase.warm()
        assert (report.n_computed, report.n_present, report.n_prompts_run) == (12, 0, 0)
        assert (
            report.bytes == files_of(erase).n_bytes == sum(each.stat().st_size for each in (path / "windows").iterdir())
        )
        assert erase.status().bytes > report.bytes
    llm = TransformersLLM(folders("llama"))
    with Erase.open(path, embedder=WordEmbedder(), llm=llm) as erase:
        runs = runs_of(llm)
        erase.choose(QUERIES[0])
        assert len(runs) == 2, "more was run than the head, which no example is in, and the query"
        assert answers(erase) == expected
        erase.forget(3)
        erase.warm()
        llm.forget()
        got = answers(erase)
    with new_path() as other, store(other, llm, [each for each in examples if each.id != 3]) as fresh:
        llm.forget()
        assert got == answers(fresh)


damages = st.lists(
    st.tuples(
        st.integers(0, 11), st.sampled_from(["flip", "cut", "swap", "old", "other", "gone"]), st.integers(0, 10**6)
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def warmed(folders: Callable[[str], Path]) -> Any:
    """A warm store with what it answers, and files of its slots that are another's."""
    with new_path() as path, new_path() as other:
        llm = TransformersLLM(folders("llama"))
        former = TransformersLLM(make_model(path.with_name("former"), "llama", seed=1))
        foreign = {}
        for place, model in ((other, llm), (path, former)):
            with store(place, model, some(12)) as erase:
                erase.warm()
                foreign[place] = {slot: (place / "windows" / str(slot)).read_bytes() for slot in range(12)}
        with Erase.open(path, embedder=WordEmbedder(), llm=llm) as erase:
            assert erase.warm().n_computed == 12, "windows of another model were left"
            expected = answers(erase)
            yield erase, llm, expected, {"other": foreign[other], "old": foreign[path]}


@given(damages=damages)
def test_damaged_and_foreign_files_change_no_answer(warmed: Any, damages: list[tuple[int, str, int]]) -> None:
    erase, llm, expected, foreign = warmed
    folder = files_of(erase).folder
    erase.warm()
    for slot, how, place in damages:
        file = folder / str(slot)
        content = file.read_bytes() if file.exists() else b"x"
        at = place % len(content)
        if how == "flip":
            file.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
        elif how == "cut":
            file.write_bytes(content[:at])
        elif how == "gone":
            file.unlink(missing_ok=True)
        elif how == "swap":
            other = folder / str((slot + 1) % 12)
            if other.exists():
                file.write_bytes(other.read_bytes())
                other.write_bytes(content)
        else:
            file.write_bytes(foreign[how][slot])
    llm.forget()
    assert answers(erase) == expected


def test_windows_of_one_query_stay_together_however_small_the_budget(
    path: Path, folders: Callable[[str], Path]
) -> None:
    with store(path, TransformersLLM(folders("llama")), some(12)) as erase:
        erase.warm()
    llm = TransformersLLM(folders("llama"), memory=0)
    with Erase.open(path, embedder=WordEmbedder(), llm=llm) as erase:
        runs = runs_of(llm)
        for query in QUERIES:
            erase.choose(query)
        assert len(runs) == 2 + 2 * (len(QUERIES) - 1), "a window was run that a file has"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_windows_in_half_the_bytes(path: Path, folders: Callable[[str], Path], dtype: str) -> None:
    half = TransformersLLM(folders("llama"), window_dtype=dtype)
    with store(path, half, some(12)) as erase:
        expected = answers(erase)
        small = erase.warm().bytes
        half.forget()
        assert answers(erase) == expected
    with Erase.open(path, embedder=WordEmbedder(), llm=TransformersLLM(folders("llama"))) as erase:
        report = erase.warm()
        assert report.n_computed == 12, "windows of another type were taken"
        assert small < 0.6 * report.bytes


# ---- what is forgotten ----
def test_a_file_goes_with_its_example_and_no_copy_of_it_opens(path: Path, llm: TransformersLLM) -> None:
    with store(path, llm, some(12)) as erase:
        erase.warm()
        copies = {slot: (path / "windows" / str(slot)).read_bytes() for slot in range(12)}
        name = bytes.fromhex(parts_of(erase).store.constants.name)
        before = slots_in((path / "keys").read_bytes())
        assert all(opened_window(copies[slot], before[slot].key, name, slot) for slot in range(12))
        erase.forget([3, 5])
        assert files_of(erase).slots() == [slot for slot in range(12) if slot not in (3, 5)]
        left = slots_in((path / "keys").read_bytes())
        for slot in (3, 5):
            assert not any(opened_window(copies[slot], each.key, name, slot) for each in left.values())
        assert erase.verify().ok


def test_the_key_is_destroyed_and_the_receipt_published_before_the_file_is_deleted(
    path: Path, llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    with store(path, llm, some(12)) as erase:
        erase.warm()
        delete, opened = WindowFiles.delete, parts_of(erase)

        def checked(files: WindowFiles, slots: Any) -> None:
            slots = list(slots)
            seen.append((slots, opened.store.keys.are_destroyed(slots), len(opened.receipts.folder.numbers())))
            delete(files, slots)

        monkeypatch.setattr(WindowFiles, "delete", checked)
        erase.forget(3)
    assert seen == [([3], True, 1)]


def test_a_file_that_stays_is_no_error_but_is_counted_and_deleted_later(
    path: Path, llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So also if the process dies after the receipt is published."""
    with store(path, llm, some(12)) as erase:
        erase.warm()
        with monkeypatch.context() as patch:
            patch.setattr(WindowFiles, "delete", lambda *_: None)
            assert erase.forget(3).ids == [3]
        assert 3 in files_of(erase).slots()
        assert erase.status().scrubbed
        found = erase.verify()
        assert [each for each in found.problems if "1 window file left" in each] == found.problems != []
        with Erase.open(path, embedder=WordEmbedder(), llm=llm) as other:
            assert other.verify().ok
            assert files_of(other).slots() == [slot for slot in range(12) if slot != 3]
            with monkeypatch.context() as patch:
                patch.setattr(WindowFiles, "delete", lambda *_: None)
                other.forget(4)
            other.warm()
            assert 4 not in files_of(other).slots()


def test_a_file_that_cannot_be_deleted_does_not_fail_the_removal(path: Path, llm: TransformersLLM) -> None:
    with store(path, llm, some(12)) as erase:
        erase.warm()
        (path / "windows" / "3").unlink()
        (path / "windows" / "3").mkdir()
        assert erase.forget(3).ids == [3]
        assert len(erase.receipts()) == 1


def test_what_another_process_forgets_is_taken_from_no_file(
    path: Path, folders: Callable[[str], Path], other: Elsewhere
) -> None:
    llm = TransformersLLM(folders("llama"))
    examples = some(12)
    with store(path, llm, examples) as erase:
        erase.warm()
        other("open", path)
        for _ in range(4):
            llm.forget()
            shown = [each.id for each in erase.demonstrations(QUERIES[0])]
            erase.choose(QUERIES[0])
            assert kept_ids(llm) == set(shown)
            other("forget", shown[-1])
            examples = [each for each in examples if each.id != shown[-1]]
            runs = runs_of(llm)
            erase.choose(QUERIES[0])
            assert shown[-1] not in kept_ids(llm)
            assert len(runs) == 1, "the window that came in was run, though a file has it"
        got = answers(erase)
    with new_path() as fresh, store(fresh, llm, examples) as erase:
        llm.forget()
        assert got == answers(erase)


def test_an_example_that_is_forgotten_between_two_queries_of_one_call_does_not_stay_in_memory(
    path: Path, folders: Callable[[str], Path], other: Elsewhere
) -> None:
    class Interrupted(TransformersLLM):
        going: Any = None

        def choose(self, prompt: Prompt, options: Sequence[str]) -> Any:
            choice = super().choose(prompt, options)
            if self.going is not None:
                other("forget", self.going)
                self.going = None
            return choice

    llm = Interrupted(folders("llama"))
    with store(path, llm, some(12), n_shots=1) as erase:
        erase.warm()
        llm.forget()
        other("open", path)
        first, second = (shown[0].id for shown in erase.demonstrations_many(["parcel number 0", "refund number 7"]))
        assert first != second
        llm.going = second
        erase.choose_many(["parcel number 0", "refund number 7"])
        erase.refresh()
        assert kept_ids(llm) == {None, first} - {None}
        assert second not in kept_ids(llm)


@pytest.mark.parametrize("when", ["before it is written", "before the others are read"])
def test_another_process_may_forget_while_windows_are_computed(
    path: Path, llm: TransformersLLM, other: Elsewhere, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(warming, "GROUP", 3)
    compute, done = llm.window, []

    def window(prompt: Prompt, place: int) -> NDArray[np.uint8]:
        content = compute(prompt, place)
        done.append(prompt.demonstrations[place].id)
        if len(done) == 4:
            other("forget", [done[-1] if when == "before it is written" else 8, 11])
        return content

    with store(path, llm, some(12)) as erase:
        other("open", path)
        monkeypatch.setattr(llm, "window", window)
        erase.warm()
        gone = {done[3] if when == "before it is written" else 8, 11}
        assert files_of(erase).slots() == sorted(set(range(12)) - gone)
        erase.refresh()
        assert not gone & kept_ids(llm)
        assert erase.verify().ok


def test_files_of_an_old_copy_that_was_put_back_are_deleted(path: Path, llm: TransformersLLM) -> None:
    with store(path, llm, some(6), receipts=path.with_name("receipts")) as erase:
        content = parts_of(erase).store._db._connection.serialize()
    with Erase.open(path, embedder=WordEmbedder(), llm=llm) as erase:
        erase.ingest(some(3, 50))
        erase.warm()
        assert len(files_of(erase).slots()) == 9
    for file in path.glob("examples.sqlite*"):
        file.unlink()
    (path / "examples.sqlite").write_bytes(content)
    with Erase.open(path, embedder=WordEmbedder(), llm=llm) as erase:
        assert [each.id for each in erase.examples()] == list(range(6))
        assert files_of(erase).slots() == list(range(6))
        assert erase.warm().n_present == 6


# ---- computing ----
def test_a_call_that_was_interrupted_goes_on_where_it_was(
    path: Path, llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, left = llm.window, [7]

    def window(prompt: Prompt, place: int) -> NDArray[np.uint8]:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return compute(prompt, place)

    with store(path, llm, some(40)) as erase:
        with monkeypatch.context() as patch:
            patch.setattr(llm, "window", window)
            with pytest.raises(KeyboardInterrupt):
                erase.warm()
        assert len(files_of(erase).slots()) == 7
        report = erase.warm()
        assert (report.n_computed, report.n_present) == (33, 7)
        runs = runs_of(llm)
        llm.forget()
        again = erase.warm()
        assert (again.n_computed, again.n_present, again.bytes, runs) == (0, 40, report.bytes, [])
        erase.ingest(some(2, 100))
        assert erase.warm().n_computed == 2


def test_memory_stays_within_the_budget_of_the_model(path: Path, folders: Callable[[str], Path]) -> None:
    probe = TransformersLLM(folders("llama"))
    probe.window(Prompt(Template(), (example(1),), "?", "windows"), 0)
    budget = 4 * probe._memory.n_bytes
    llm = TransformersLLM(folders("llama"), memory=budget)
    most = [0]
    llm._memory.model.register_forward_pre_hook(lambda *_: most.__setitem__(0, max(most[0], llm._memory.n_bytes)))
    with store(path, llm, some(40)) as erase:
        erase.warm()
        assert 0 < most[0] <= budget
        assert llm._memory.n_bytes <= budget < files_of(erase).n_bytes


def test_two_processes_do_not_compute_the_same(path: Path, llm: TransformersLLM) -> None:
    with store(path, llm, some(3), timeout=0.05) as erase:
        with files_of(erase).writing(0), pytest.raises(StoreLockedError, match="computing windows"):
            erase.warm()
        assert erase.warm().n_computed == 3


def test_examples_that_do_not_fit_into_the_context_are_left_out(path: Path, folders: Callable[[str], Path]) -> None:
    llm = TransformersLLM(folders("absolute"))  # which has no positions beyond
    long = Example(99, "late " * CONTEXT, "no")
    with store(path, llm, [*some(3), long]) as erase:
        report = erase.warm()
        assert (report.n_computed, report.n_too_long, report.n_present) == (3, 1, 0)
        assert "1 example too long" in str(report)
        erase.choose(QUERIES[0])


def test_a_new_key_of_the_user_leaves_windows_as_they_are(path: Path, llm: TransformersLLM) -> None:
    with store(path, llm, some(5)) as erase:
        erase.warm()
        erase.rekey(b"k" * 32)
    with Erase.open(path, embedder=WordEmbedder(), llm=llm, key=b"k" * 32) as erase:
        assert erase.warm().n_present == 5
        assert erase.verify().ok


# ---- other stores ----
@pytest.mark.parametrize("strategy", ["kmeans", "random", "routed"])
@pytest.mark.parametrize("context", ["joint", "windows"])
@pytest.mark.parametrize("options", [OPTIONS, ()])
def test_a_prompt_that_queries_share_is_run_and_kept_in_memory(
    path: Path, llm: TransformersLLM, strategy: str, context: str, options: Any
) -> None:
    with create(path, some(12), llm=llm, options=options, strategy=strategy, context=context) as erase:
        report = erase.warm()
        n_prompts = 12 if strategy == "routed" else 1  # at most one for each example
        assert (report.n_prompts_run, report.n_prompts_kept) == (n_prompts, n_prompts)
        assert (report.n_computed, report.bytes) == (0, 0)
        assert not (path / "windows").exists()
        runs = runs_of(llm)
        if options:
            erase.choose(QUERIES[0])
        else:
            erase.ask(QUERIES[0], max_tokens=1)
        assert len(runs) == 1
        assert f"{n_prompts} prompt" in str(report)


@pytest.mark.parametrize("context", ["joint", "windows"])
def test_prompts_beyond_the_budget_are_not_called_kept(
    path: Path, folders: Callable[[str], Path], context: str
) -> None:
    llm = TransformersLLM(folders("llama"), memory=0)
    with create(path, some(12), llm=llm, options=OPTIONS, strategy="routed", context=context) as erase:
        report = erase.warm()
        assert (report.n_prompts_run, report.n_prompts_kept) == (12, 1)
        assert "12 prompts run; the memory that the language model may use holds 1 of them" in str(report)


def test_what_is_forgotten_between_two_prompts_is_not_run_any_more(
    path: Path, llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[set[Any]] = []
    choose = llm.choose

    def noted(prompt: Prompt, options: Sequence[str]) -> Any:
        ran.append({each.id for each in prompt.demonstrations})
        return choose(prompt, options)

    with create(path, some(12), llm=llm, options=OPTIONS, strategy="routed", n_shots=3, n_prompts=4) as erase:

        @contextmanager
        def bar(*_: Any, **__: Any) -> Iterator[Callable[[int], object]]:
            yield lambda _: erase.forget(min(ran[0])) if len(ran) == 1 else None

        monkeypatch.setattr(llm, "choose", noted)
        monkeypatch.setattr(warming, "bar", bar)
        report = erase.warm()
        prompts = [set(each) for each in erase.status().prompts]
        assert report.n_prompts_run == len(ran) > 3
        assert all(prompt in ran[1:] for prompt in prompts if prompt != ran[0])
        assert all(min(ran[0]) not in shown for shown in ran[1:])
        assert min(ran[0]) not in kept_ids(llm)


def test_another_process_may_forget_while_prompts_are_run(
    path: Path, llm: TransformersLLM, other: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose, gone = llm.choose, [3, 7]

    def interrupted(prompt: Prompt, options: Sequence[str]) -> Any:
        if gone:
            other("forget", gone.pop())
        return choose(prompt, options)

    with create(path, some(12), llm=llm, options=OPTIONS, strategy="routed", n_shots=3, n_prompts=4) as erase:
        other("open", path)
        monkeypatch.setattr(llm, "choose", interrupted)
        erase.warm()
        erase.refresh()
        assert not {3, 7} & kept_ids(llm)
        assert erase.warm().n_prompts_kept == 4


@pytest.mark.parametrize("strategy", ["kmeans", "routed", "knn"])
def test_a_model_that_keeps_nothing_in_this_process_is_not_asked(path: Path, strategy: str) -> None:
    llm = CountingLLM()
    with create(path, some(12), llm=llm, options=OPTIONS, strategy=strategy) as erase:
        report = erase.warm()
        assert (report.n_prompts_run, report.n_prompts_kept, llm.prompts) == (0, 0, [])
        assert "nothing to compute" in str(report)


@pytest.mark.parametrize("context", ["joint", "windows"])
@pytest.mark.parametrize("strategy", ["kmeans", "knn"])
@pytest.mark.parametrize("how", ["closed", "deleted"])
def test_a_store_that_is_closed_or_gone_is_one_error(
    path: Path, llm: TransformersLLM, context: str, strategy: str, how: str
) -> None:
    with create(path, some(3), llm=llm, strategy=strategy, context=context) as erase:
        if how == "closed":
            erase.close()
        else:
            shutil.rmtree(path)
        with pytest.raises(StoreError):
            erase.warm()
        assert not (path / "windows").exists()


def test_windows_of_equal_weights_with_another_configuration_are_not_taken(
    path: Path, folders: Callable[[str], Path]
) -> None:
    """They have the same name, which is of the weights."""
    models = []
    for theta in (10_000.0, 100.0):
        folder = path.with_name(f"theta {theta}") / "model"
        shutil.copytree(folders("llama"), folder)
        config = json.loads((folder / "config.json").read_text())
        config.setdefault("rope_parameters", {"rope_type": "default"})["rope_theta"] = theta
        config["rope_theta"] = theta  # of transformers 4
        (folder / "config.json").write_text(json.dumps(config))
        models.append(TransformersLLM(folder))
    assert models[0].name == models[1].name
    with store(path, models[0], some(12)) as erase:
        erase.warm()
        first = answers(erase)
    with Erase.open(path, embedder=WordEmbedder(), llm=models[1]) as erase:
        second = answers(erase)
        assert second != first
        assert erase.warm().n_computed == 12
        models[1].forget()
        assert answers(erase) == second


def test_neighbours_in_one_prompt_leave_nothing_to_compute(path: Path, llm: TransformersLLM) -> None:
    for place, (model, context) in enumerate([(llm, "joint"), (CountingLLM(), "auto")]):
        with store(path / str(place), model, some(5), context=context) as erase:
            report = erase.warm()
            assert (report.n_computed, report.n_prompts_run, report.bytes) == (0, 0, 0)
            assert "nothing to compute" in str(report)
            assert not (path / str(place) / "windows").exists()


def test_a_model_that_cannot_read_windows_is_refused_if_the_store_insists(
    path: Path, folders: Callable[[str], Path]
) -> None:
    with store(path / "auto", TransformersLLM(folders("sliding")), some(3)) as erase:
        assert erase.warm().n_computed == 0
    Erase.create(
        path / "insists", llm=str(folders("sliding")), strategy="knn", context="windows", embedder=WordEmbedder()
    ).close()
    with (
        Erase.open(path / "insists", embedder=WordEmbedder()) as erase,
        pytest.raises(LLMError, match=r'cannot read windows: .*slides.*"joint" from `erase export`'),
    ):
        erase.warm()


def test_a_model_of_the_callers_whose_windows_cannot_be_moved_is_refused_if_the_store_insists(path: Path) -> None:
    class Own(CountingLLM):
        contexts = ("joint", "windows")

    with (
        store(path, Own(), some(3), context="windows") as erase,
        pytest.raises(LLMError, match="cannot be kept in files"),
    ):
        erase.warm()


def test_an_empty_store(path: Path, llm: TransformersLLM) -> None:
    with store(path, llm) as erase:
        report = erase.warm()
        assert (report.n_computed, report.n_present) == (0, 0)


def test_a_folder_that_cannot_be_written_is_one_error(path: Path, llm: TransformersLLM) -> None:
    with store(path, llm, some(3)) as erase:
        (path / "windows").write_bytes(b"in the way")
        erase.choose(QUERIES[0])
        with pytest.raises(StoreError, match=r"windows: .*call it again"):
            erase.warm()


# ---- the command line ----
def test_the_command_computes_and_says_what_it_did(path: Path, folders: Callable[[str], Path]) -> None:
    with store(path, str(folders("llama")), some(5)):
        pass
    first = command_line.json_of("warm", "--store", path, "--json")
    assert (first["n_computed"], first["n_present"]) == (5, 0)
    done = command_line.erase("warm", "--store", path)
    assert "0 windows computed, 5 were there already" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"strategy": "kmeans"}, "kmeans"),
        ({"strategy": "random"}, "random"),
        ({"strategy": "routed", "n_prompts": 2}, "routed"),
        ({"strategy": "knn", "llm": "m", "base_url": "http://127.0.0.1:9/v1"}, "server"),
    ],
)
def test_the_command_loads_no_model_where_it_has_nothing_to_compute(
    path: Path, settings: dict[str, Any], why: str
) -> None:
    # A model that is missing, so that an attempt to load it fails.
    create(path, some(5), **{"llm": str(path / "none"), **settings}).close()
    done = command_line.erase("warm", "--store", path)
    assert done.exit_code == 0
    assert why in done.stderr
    assert "nothing to compute" in done.stdout
    report = command_line.json_of("warm", "--store", path)
    assert (report["n_computed"], report["n_prompts_run"]) == (0, 0)
    assert "--server" not in command_line.erase("warm", "--help").stdout


def test_a_command_that_is_interrupted_says_that_it_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Erase, *, progress: bool) -> None:
        raise KeyboardInterrupt

    create(path, some(5), strategy="knn").close()
    monkeypatch.setattr(Erase, "warm", interrupted)
    done = command_line.erase("warm", "--store", path)
    assert done.exit_code == 130
    assert "finished windows are kept. Run the command again to go on\n" in done.stderr


def test_any_order_of_calls_leaves_the_files_of_the_examples_alone(path: Path, llm: TransformersLLM) -> None:
    rng = random.Random(0)
    present, new = set(range(12)), 12
    with store(path, llm, some(12)) as erase:
        for _ in range(30):
            kind = rng.choice(["warm", "forget", "ingest", "choose", "reopen"])
            if kind == "forget" and len(present) > 1:
                going = rng.choice(sorted(present))
                present.discard(going)
                erase.forget(going)
            elif kind == "ingest":
                erase.ingest(some(1, new))
                present.add(new)
                new += 1
            elif kind == "choose":
                erase.choose(QUERIES[0])
            elif kind == "reopen":
                Erase.open(path, embedder=WordEmbedder(), llm=llm).close()
            else:
                erase.warm()
                keys = parts_of(erase).store.keys
                used = keys.all().used().tolist()
                assert len(used) == len(present)
                assert files_of(erase).slots() == used
            assert set(files_of(erase).slots()) <= set(parts_of(erase).store.keys.all().used().tolist())


def test_a_key_of_windows_opens_no_row() -> None:
    secret = bytes(range(32))
    key = WindowKey.of(1, secret)
    assert len({secret, key.cipher, key.marker}) == 3
