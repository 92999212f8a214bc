"""Settings: JSON keeps them; what is out of range, there or in a call of `Erase`, gets one error that names it."""

from __future__ import annotations

import inspect
import re
import shutil
from ast import literal_eval
from dataclasses import fields, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_type_hints

import numpy as np
import pytest
from erase_core.erase import Erase
from erase_core.errors import (
    EmbedderError,
    IdKindError,
    OldCopyWarning,
    ParameterError,
    StoreError,
    UnknownIdError,
    UnknownSubjectError,
)
from erase_core.llm import ServerOptions
from erase_core.llm.prompt import Template
from erase_core.settings import OTHERS, GivenSettings, Settings
from hypothesis import given
from hypothesis import strategies as st
from problems import Stranger
from small_stores import DIM, ONE_PROMPT, CountingLLM, WordEmbedder, check_refused, create, parts_of, refused, some

NAN, INF = float("nan"), float("inf")

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
not_blank = storable.filter(lambda text: bool(text.strip()))
all_settings = st.builds(
    Settings,
    n_shots=st.integers(1, 1024),
    strategy=st.sampled_from(["kmeans", "knn", "random"]),
    seed=st.integers(0, 2**64 - 1),
    epsilon=st.floats(1e-6, 3),
    gamma=st.floats(0, 1),
    max_iter=st.integers(1, 1024),
    panel=st.none() | st.just("auto") | st.integers(1024, 2**31 - 1),
    projection=st.none() | st.integers(1, 65_536),
    template=st.none() | st.builds(Template, storable, storable, storable, storable, storable),
    options=st.lists(not_blank, unique=True).map(tuple),
    embedder=st.none() | not_blank,
    llm=not_blank,
    base_url=st.none() | not_blank.filter(lambda url: "@" not in url),
    chat=st.booleans(),
    server=st.builds(
        ServerOptions,
        timeout=st.floats(0.001, 1e6),
        max_retries=st.integers(0, 100),
        context_length=st.none() | st.integers(2**20 + 1, 2**40),
        thinking_tokens=st.integers(0, 2**20),
        api_key_env=st.none() | st.just("SOME_KEY"),
        parameters=st.dictionaries(not_blank.map("x".__add__), st.none() | storable | st.integers() | st.booleans()),
    ),
    on_control_tokens=st.sampled_from(["keep", "refuse"]),
)


@given(settings=all_settings, n_shots=st.integers(1, 16), n_prompts=st.none() | st.integers(1, 1024))
def test_json_keeps_settings(settings: Settings, n_shots: int, n_prompts: int | None) -> None:
    routed = replace(settings, strategy="routed", n_shots=n_shots, n_prompts=n_prompts)
    for each in (settings, routed):
        again = Settings.from_json(each.to_json())
        assert again == each
        assert again.to_json() == each.to_json()
    assert routed.n_prompts == (n_prompts or 16)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        *(({"n_prompts": value}, "n_prompts") for value in (0, -1, 1025, 2.0, "8", True)),
        *(({"n_shots": value}, "n_shots") for value in (0, 17, 1024)),
        ({"n_prompts": 40, "panel": 39}, "panel"),
        ({"n_shots": 12, "n_prompts": 40, "panel": 20}, "panel"),
    ],
    ids=str,
)
def test_settings_of_routes_out_of_range_are_refused_by_name(path: Path, given: dict[str, Any], word: str) -> None:
    refused(lambda: create(path, strategy="routed", **given), ParameterError, word)
    assert not path.exists()


def test_the_model_has_as_many_clusters_as_prompts() -> None:
    routed = Settings(strategy="routed", n_shots=12, n_prompts=9, panel=9)  # fewer on the panel than shots
    assert (routed.n_clusters, Settings(strategy="routed").n_clusters, Settings(n_shots=5).n_clusters) == (9, 16, 5)


def test_default_settings_are_those_of_create(path: Path) -> None:
    with Erase.create(path, embedder=WordEmbedder()) as erase:
        assert erase.settings == Settings()


def test_a_store_keeps_its_settings(path: Path) -> None:
    options: dict[str, Any] = {"n_shots": 5, "strategy": "random", "seed": 7, "epsilon": 0.25, "projection": 4}
    options |= {"options": ("yes", "no"), "template": Template("Say so."), "base_url": "http://x/v1", "llm": "some"}
    options |= {"context": "joint", "calibrate": False}
    create(path, **options, chat=True).close()
    with Erase.open(path) as erase:
        assert erase.settings == Settings(**options, chat=True)
        assert erase.demonstrations() == []  # no model is loaded for that


def test_numbers_of_numpy_and_fractions_are_those_they_stand_for(path: Path) -> None:
    given: dict[str, Any] = {"n_shots": np.int64(3), "seed": np.uint64(2**63), "epsilon": np.float64(0.3)}
    theirs = Settings(**given, projection=cast("int", np.int8(4)))
    assert theirs == Settings(n_shots=3, seed=2**63, epsilon=0.3, projection=4)
    assert Settings.from_json(theirs.to_json()) == theirs
    assert Settings(epsilon=Fraction(1, 3)) == Settings(epsilon=1 / 3)  # type: ignore[arg-type]
    assert Settings(options=["a", "b"]) == Settings(options=("a", "b"))  # type: ignore[arg-type]
    nothing: list[Any] = [[], iter(()), {}.keys(), np.array([])]
    assert [Settings(options=each).options for each in nothing] == [()] * 4
    erase = create(path, some(5), n_shots=np.int64(3), seed=np.uint64(3), projection=np.int64(4))
    assert erase.settings == Settings(n_shots=3, seed=3, projection=4, **ONE_PROMPT)


OUT_OF_RANGE: list[tuple[str, Any]] = [
    *(("n_prompts", value) for value in (8, 16, 0, "16", True)),  # it is for "routed" only
    *(("n_shots", value) for value in (0, -1, 1025, 2.0, "8", True, None)),
    *(("strategy", value) for value in ("", "KMEANS", "all", None, 1, ["knn"])),
    *(("seed", value) for value in (-1, 2**64, 0.0, "0", True, None)),
    *(("epsilon", value) for value in (0, -1.0, 3.1, 1e-9, NAN, INF, "1", True, None)),
    *(("projection", value) for value in (0, -1, 65_537, True, "3", 2.5)),
    *(("template", value) for value in (5, "Q: ", ["Q: "])),
    *(
        ("options", value)
        for value in ("yes", "", 5, {1}, [""], [" "], [1], [None], ["a", "a"], ["\0"], ["\ud800"], None)
    ),
    *(("llm", value) for value in ("", " ", 5, b"name", "a\0b")),
    *(("embedder", value) for value in ("", " ", 5, b"name", "a\0b")),
    *(("base_url", value) for value in ("", 5, b"http://x", "http://me:secret@x/v1", "me@x")),
    *(("server", value) for value in (5, "timeout=3", ["timeout"])),
    *(("chat", value) for value in (None, 1, "yes")),
    *(("context", value) for value in (None, 1, "", "window", ["joint"])),
    *(("calibrate", value) for value in (None, 1, "yes")),
    *(("on_control_tokens", value) for value in (None, 1, "", "drop")),
]
ONLY_IN_SETTINGS: list[tuple[str, Any]] = [
    *(("gamma", value) for value in (-0.1, 1.1, NAN, "0", True, None)),
    *(("max_iter", value) for value in (0, 1025, 1.0, True, None)),
    *(("panel", value) for value in (0, 7, -1, 2**31, 1000.0, True, "all", "AUTO", [1024])),
    ("projection", [[1.0, 0.0]]),
    ("template", {"stop": "\n"}),
    ("server", None),
    ("server", {}),
]
ONLY_IN_CREATE: list[tuple[str, Any]] = [
    *(("template", value) for value in ({"prefix": "Q"}, {"stop": ""}, {"stop": 5}, {"stop": "\0"})),
    *(
        ("base_url", value)
        for value in ("localhost:8000", "ftp://x", "http://", "http://x/v1?api_key=secret", "http://x#a")
    ),
    *(("server", value) for value in ({"api_key": "secret"}, {"timeout": 3}, {})),  # the last two without base_url
    ("projection", np.zeros((0, DIM))),
    ("projection", np.zeros((2, DIM))),
    ("projection", np.full((2, DIM), NAN)),
    ("projection", np.eye(DIM + 1)),
    ("projection", np.ones(DIM)),
    ("projection", np.ones((2, DIM, 1))),
    ("projection", np.ones((2, DIM), complex)),
    ("projection", [["a"] * DIM]),
    ("embedder", Stranger()),
    ("llm", Stranger()),
]


def shown(case: tuple[str, Any]) -> str:
    return f"{case[0]}={case[1]!r}"


@pytest.mark.parametrize("case", OUT_OF_RANGE + ONLY_IN_SETTINGS, ids=shown)
def test_settings_out_of_range_are_refused_by_name(case: tuple[str, Any]) -> None:
    name, value = case
    refused(
        lambda: Settings(**{"llm": "some", name: value} if value is not None or name != "llm" else {}),
        ParameterError,
        name,
    )


@pytest.mark.parametrize("case", OUT_OF_RANGE + ONLY_IN_CREATE, ids=shown)
def test_create_refuses_what_is_out_of_range_by_name_and_makes_nothing(path: Path, case: tuple[str, Any]) -> None:
    name, value = case
    llm = {"llm": "some"} if name == "base_url" else {}
    refused(lambda: create(path, **{**llm, name: value}), ParameterError, name)
    assert not path.exists()


def test_every_setting_is_tried_out_of_range() -> None:
    assert {name for name, _ in OUT_OF_RANGE + ONLY_IN_SETTINGS} == {field.name for field in fields(Settings)}


def test_a_server_needs_the_name_of_its_model(path: Path) -> None:
    refused(lambda: create(path, base_url="http://localhost/v1", llm=None), ParameterError, "llm", "base_url")
    assert not path.exists()


@pytest.mark.parametrize("value", [None, 5, b"store", "a\0b", "\ud800"])
def test_a_path_that_is_none_is_refused(path: Path, value: Any) -> None:
    refused(lambda: create(value), ParameterError, "path")
    refused(lambda: Erase.open(value), ParameterError, "path")
    with create(path, some(3)) as erase:
        check_refused(erase, lambda: erase.export(value), ParameterError, "path")


def test_a_path_where_nothing_can_be_is_refused(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("")
    for place in (path / "file" / "store", path / ("x" * 300), path / "file"):
        refused(lambda place=place: create(place), StoreError, str(place))  # type: ignore[misc]


# ---- calls ----
NOTHING: list[Any] = [[], (), np.array([], int)]
NO_IDS: list[tuple[Any, type[Exception]]] = [
    *((value, IdKindError) for value in (True, [True], 1.0, [1.0], b"\1", [b"1"], [None], [[1]], Stranger())),
    *(
        (value, IdKindError)
        for value in (np.float32(1), [np.float16(1)], np.array([1], "f4"), Decimal("0.5"), [Decimal("NaN")])
    ),
    *((value, IdKindError) for value in (np.array([1.0]), np.array(1), np.array([[1]]), np.array([True]))),
    *((value, ParameterError) for value in NOTHING),
    *((value, UnknownIdError) for value in (2**63, -(2**70), 2**200, "1", "\ud800", "a\0b", [1, "1"], [1, 99])),
]


@pytest.mark.parametrize(("ids", "error"), NO_IDS, ids=str)
def test_forget_refuses_ids_that_are_none(path: Path, ids: Any, error: type[Exception]) -> None:
    erase = create(path, some(4))
    for dry_run in (False, True):
        check_refused(erase, lambda dry_run=dry_run: erase.forget(ids, dry_run=dry_run), error, "id")  # type: ignore[misc]


@pytest.mark.parametrize("subject", [5, b"ann", [5], "", " \n", ["ann", ""], "ANN", "a\0", "\ud800"], ids=repr)
def test_forget_refuses_subjects_that_are_none(path: Path, subject: Any) -> None:
    error = UnknownSubjectError if isinstance(subject, str) and subject.strip() else ParameterError
    with create(path, some(4)) as erase:
        check_refused(erase, lambda: erase.forget(subject=subject), error, "subject")


def test_forget_wants_either_ids_or_a_subject(path: Path) -> None:
    erase = create(path, some(4))
    check_refused(erase, lambda: erase.forget(), ParameterError, "ids", "subject")
    check_refused(erase, lambda: erase.forget(1, subject="ann"), ParameterError, "ids", "subject")


@pytest.mark.parametrize(
    "ids",
    [np.int64(2), np.array([2]), {2}, Decimal(2), [Decimal("2.0")], {2: "x"}.keys(), range(2, 3), iter([2, 2])],
    ids=lambda ids: re.sub(" at 0x.*", "", str(ids)),
)
def test_forget_takes_ids_in_any_form(path: Path, ids: Any) -> None:
    with create(path, some(4)) as erase:
        report = erase.forget(ids)
        assert report.ids == [2]
        assert type(report.ids[0]) is int


@pytest.mark.parametrize("strategy", ["kmeans", "knn"])
@pytest.mark.parametrize("query", ["", " \n", 5, None, b"where", "\0", "\ud800"], ids=repr)
def test_a_query_that_is_none_is_refused_by_every_call(path: Path, query: Any, strategy: str) -> None:
    with create(path, some(4), strategy=strategy, options=("a", "b")) as erase:
        for call in (erase.prompt, erase.ask, erase.choose):
            check_refused(erase, lambda call=call: call(query), ParameterError, "query")  # type: ignore[misc]
        if strategy == "knn":
            check_refused(erase, lambda: erase.demonstrations(query), ParameterError, "query")
        assert parts_of(erase).backends._llm.prompts == []  # type: ignore[union-attr]


@pytest.mark.parametrize("context_length", [None, 100])
def test_ask_and_choose_refuse_what_is_out_of_range(path: Path, context_length: int | None) -> None:
    erase = create(path, some(4), llm=CountingLLM(context_length))
    for tokens in (0, -1, 1.0, "8", True, 2**31):
        check_refused(erase, lambda tokens=tokens: erase.ask("who", max_tokens=tokens), ParameterError, "max_tokens")  # type: ignore[misc]
    for options in ("yes", 5, [], [""], [1], ["a", "a"], ["\0"], None):
        check_refused(erase, lambda options=options: erase.choose("who", options), ParameterError, "options")  # type: ignore[misc]


def test_open_refuses_models_that_are_none(path: Path) -> None:
    create(path, some(4)).close()
    wrong: list[Any] = [5, b"name", object()]
    for value in wrong:
        refused(lambda value=value: Erase.open(path, embedder=value), ParameterError, "embedder")  # type: ignore[misc]
        refused(lambda value=value: Erase.open(path, llm=value), ParameterError, "llm")  # type: ignore[misc]
    for other in (WordEmbedder("others"), WordEmbedder(dim=DIM + 1)):
        refused(lambda other=other: Erase.open(path, embedder=other), EmbedderError, "words")  # type: ignore[misc]


# ---- names ----
@pytest.mark.parametrize(
    ("wrong", "hint"), [("recepits", "receipts"), ("n_shot", "n_shots"), ("zzz", "n_shots, strategy")]
)
def test_a_parameter_that_create_does_not_have_is_named_with_the_nearest(path: Path, wrong: str, hint: str) -> None:
    given: dict[str, Any] = {wrong: 5}
    refused(lambda: create(path, **given), ParameterError, wrong, hint)
    assert not path.exists()


def test_the_settings_that_a_caller_may_give_are_all_settings() -> None:
    assert list(GivenSettings.__annotations__) == [field.name for field in fields(Settings)]
    assert not set(OTHERS) & set(GivenSettings.__annotations__)
    named = set(inspect.signature(Erase.create).parameters) - {"path", "settings"}
    assert named == set(OTHERS)


def test_programs_can_look_up_the_types_of_the_settings() -> None:
    assert list(get_type_hints(GivenSettings)) == [field.name for field in fields(Settings)]


def test_every_setting_is_documented_with_its_default() -> None:
    found = re.findall(r"^(\w[\w, ]*) : .*?(?:, default=(.*))?$", inspect.getdoc(GivenSettings) or "", re.MULTILINE)
    defaults: Any = {name: literal_eval(default) for names, default in found for name in names.split(", ")}
    assert list(defaults) == [field.name for field in fields(Settings)]
    assert Settings.of(defaults) == Settings()


def test_the_documented_defaults_are_those_of_settings() -> None:
    documented = re.findall(r"^(\w[\w, ]*) : .*default=(.*)$", str(inspect.getdoc(GivenSettings)), re.MULTILINE)
    defaults = {name: default for names, default in documented for name in names.split(", ")}
    assert list(defaults) == list(GivenSettings.__annotations__)
    stored = {name: getattr(Settings(), name) for name in defaults}
    assert stored.pop("server") == ServerOptions()
    assert defaults.pop("server") == "None"
    assert {name: literal_eval(default) for name, default in defaults.items()} == stored


def test_a_facade_is_had_from_create_and_open_only() -> None:
    with pytest.raises(TypeError, match=r"Erase\.open"):
        Erase("store")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["no", None, 0, 1])
def test_a_dry_run_is_one_or_none(path: Path, value: Any) -> None:
    erase = create(path, some(5))
    check_refused(erase, lambda: erase.forget(1, dry_run=value), ParameterError, "dry_run")


@pytest.mark.parametrize(
    "value", [np.array(1.0), [[1.0, [2.0]]], [np.zeros(8, int)], [np.zeros((2, 8))], [np.full(8, NAN)]]
)
def test_what_is_absent_is_texts_and_vectors(path: Path, value: Any) -> None:
    erase = create(path, some(5))
    check_refused(erase, lambda: erase.verify(absent=value), ParameterError, "absent must be")


def test_absent_vectors_have_the_shape_of_the_stores(path: Path) -> None:
    erase = create(path, some(5))
    for shape in ((DIM - 1,), (DIM + 1,)):
        vector = np.ones(shape)
        check_refused(erase, lambda vector=vector: erase.verify([vector]), ParameterError, f"({DIM},)", "Give each")  # type: ignore[misc]


def test_a_wrong_embedding_model_is_refused_before_an_old_copy_is_brought_up_to_date(path: Path) -> None:
    with create(path, some(9), receipts=path.with_name("receipts")) as erase:
        copy = Path(shutil.copytree(path, path.with_name("copy")))
        erase.forget([1, 2])
    refused(lambda: Erase.open(copy, embedder=WordEmbedder("others")), EmbedderError, "others")
    with pytest.warns(OldCopyWarning) as warned, Erase.open(copy, embedder=WordEmbedder()) as erase:
        assert len(erase.examples()) == 7
    assert warned[0].filename == __file__
