"""Every reader, given what nobody wrote: the right result or one of our errors, and no other error, ever.

Damage is drawn by a number, so that every run of a number is the same. With --slow there are many more.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from erase_core import QKMeans, verify_receipts
from erase_core.erase import Erase
from erase_core.errors import EraseError, ForgottenError, ModelFileError, ReceiptError, ScrubWarning, StoreError
from erase_core.examples.example import Example
from erase_core.receipts.receipt import Receipt
from fuzzing import HEAD_BYTES, KEY_BYTES, damage_keys, damage_store, damaged
from old_copies import opened
from receipts_by_hand import new_keys, sealed
from small_stores import QUERIES, contents, create, example, fresh, new_path, refused, seen, seen_anew, some

SHARDS = range(4)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], range]:
    """How often: in a fast run, and with --slow."""
    slow = request.config.getoption("--slow")
    return lambda few, many: range(many if slow else few)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_keys(tmp_path_factory.mktemp("keys")).private


@pytest.fixture(scope="module")
def closed(key: Path) -> Iterator[Path]:
    """A store with receipts in its folder, some of them signed, to be copied."""
    with new_path() as path:
        with create(path, some(12)) as erase:
            erase.forget(1)
            erase.forget(subject="bob")
        with opened(path, signing_key=key) as erase:
            erase.forget(4)
            erase.ingest([example(20), example(21, subject="ann"), example(22)])
        yield path


# ---- models ----
def model_files() -> list[bytes]:
    files = []
    X = [[0.1 * (i * i % 7), 0.2 * (i % 5), 0.05 * i] for i in range(9)]
    kinds: list[dict[str, Any]] = [{}, {"max_norm": 4.0}, {"projection": 2, "max_norm": 4.0}]
    for number, kind in enumerate(kinds):
        ids: Any = [f"row {i}" for i in range(9)] if number else list(range(9))
        files.append(QKMeans(3, n_threads=1, **kind).fit(X, ids=ids)._fitted().to_bytes())
    return files


def test_models(tmp_path: Path, rounds: Callable[[int, int], range]) -> None:
    """With a checksum that fits too; that a forger can make, so that what is read then is just what stands there."""
    count: Counter[str] = Counter()
    files = model_files()
    target = tmp_path / "model.qkm"
    for seed in rounds(1500, 60_000):
        rng = random.Random(seed)
        original = rng.choice(files)
        fits = rng.random() < 0.5
        content = damaged(rng, original[:-32] if fits else original)
        content += blake3(content).digest() if fits else b""
        target.write_bytes(content)
        try:
            read = QKMeans.load(target)
        except ModelFileError:
            count["refused"] += 1
        else:
            assert read._fitted().to_bytes() == content, seed
            assert fits or content == original, seed
            count["accepted, with a checksum that fits"] += 1
    print("models:", dict(count))
    assert count["refused"] > count.total() // 2


# ---- receipts ----
def random_json(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(9 if depth else 7)
    if kind == 7:
        return [random_json(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 8:
        return {str(random_json(rng, 0)): random_json(rng, depth - 1) for _ in range(rng.randrange(4))}
    scalars = [
        None,
        True,
        rng.choice((-1, 1)) * 2 ** rng.randrange(70),
        "",
        "0" * rng.choice((32, 64, 128)),
        "ö\n\u2028",
    ]
    return [*scalars, rng.randbytes(32).hex()][kind]


def change_fields(rng: random.Random, told: dict[str, Any]) -> None:
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(sorted(told))
        inner = told[name]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.7:
            place: Any = rng.choice(sorted(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
            inner[place] = random_json(rng)
        elif rng.random() < 0.1:
            del told[name]
        else:
            told[name] = random_json(rng)


def test_receipts(closed: Path, rounds: Callable[[int, int], range]) -> None:
    count: Counter[str] = Counter()
    originals = list(contents(closed / "receipts").values())
    for seed in rounds(1500, 60_000):
        rng = random.Random(seed)
        original = rng.choice(originals)
        content = damaged(rng, original)
        if fits := rng.random() < 0.5:
            told = json.loads(original)
            change_fields(rng, told)
            content = sealed(told)
        try:
            receipt = Receipt.from_bytes(content)
        except ReceiptError:
            count["refused"] += 1
        else:
            assert receipt.to_bytes() == content, seed
            assert fits or content == original, seed
            assert isinstance(receipt.is_balanced, bool), seed
            count["accepted, with a hash that fits"] += 1
    print("receipts:", dict(count))
    assert count["refused"] > count.total() // 2


def test_folders_of_receipts(closed: Path, path: Path, rounds: Callable[[int, int], range]) -> None:
    originals = contents(closed / "receipts")
    head = (3, json.loads(originals["00000003.json"])["hash"])
    count: Counter[str] = Counter()
    for seed in rounds(150, 5000):
        rng = random.Random(seed)
        files = dict(originals)
        for _ in range(rng.choice((1, 1, 2))):
            name = rng.choice(sorted(files))
            match rng.randrange(4):
                case 0:
                    del files[name]
                case 1:
                    files[f"{rng.randrange(9):08}.json"] = rng.choice(list(originals.values()))
                case _:
                    files[name] = damaged(rng, files[name])
            files = files or dict(originals)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        for name, content in files.items():
            (path / name).write_bytes(content)
        verification = verify_receipts(path, head=head)
        assert verification.ok == (files == originals), (seed, str(verification))
        for problem in verification.problems:
            count[problem.kind] += 1
    print("folders of receipts:", dict(count))
    assert {"tampered", "omitted", "truncated", "reordered"} <= set(count)


# ---- stores ----
def told_ok(path: Path) -> bool:
    """Whether a store finds nothing wrong with itself."""
    try:
        with opened(path) as erase:
            return erase.verify().ok
    except (EraseError, ScrubWarning):
        return False


def shown(erase: Erase) -> tuple[list[Example], list[list[Example]], list[str]]:
    prompts = [erase.prompt(query) for query in QUERIES]
    return erase.examples(), [list(prompt.demonstrations) for prompt in prompts], [prompt.text for prompt in prompts]


Call = Callable[[Erase], object]
# What is called, and which examples a sound store has then.
CALLS: dict[str, tuple[Call, Callable[[list[Example]], list[Example]]]] = {
    "open": (lambda erase: None, lambda sound: sound),
    "status": (lambda erase: erase.status().prompts, lambda sound: sound),
    "prompt": (lambda erase: erase.prompt(QUERIES[0]).text, lambda sound: sound),
    "examples": (lambda erase: erase.examples(), lambda sound: sound),
    "demonstrations": (lambda erase: erase.demonstrations(), lambda sound: sound),
    "receipts": (lambda erase: erase.receipts(), lambda sound: sound),
    "verify": (lambda erase: erase.verify().ok, lambda sound: sound),
    "trial": (lambda erase: erase.forget([3, 5], dry_run=True).ids, lambda sound: sound),
    "forget": (lambda erase: erase.forget([3, 5]).ids, lambda sound: [e for e in sound if e.id not in (3, 5)]),
    "forget subject": (
        lambda erase: erase.forget(subject="ann").ids,
        lambda sound: [e for e in sound if e.subject != "ann"],
    ),
    "ingest": (lambda erase: erase.ingest([example(99)]).n_added, lambda sound: [*sound, example(99)]),
    "ingest without ids": (
        lambda erase: erase.ingest([{"input": "late parcel", "output": "x"}]).n_added,
        lambda sound: [*sound, Example(23, "late parcel", "x")],
    ),
}
Right = dict[str, tuple[object, object]]


@pytest.fixture(scope="module")
def right(closed: Path, key: Path) -> Right:
    """Of a sound store: what each call returns, and what is shown then; the latter by a new store."""
    results: Right = {}
    for name, (call, change) in CALLS.items():
        with new_path() as path:
            shutil.copytree(closed, path)
            with opened(path, signing_key=key) as erase:
                seen = fresh(change(erase.examples()))
                results[name] = (call(erase), (seen.examples, seen.demonstrations, seen.prompts))
                assert shown(erase) == results[name][1]
    return results


def check_call(name: str, damaged_store: Path, key: Path, right: Right) -> str:
    """Call on a copy: one of our errors, or the right result, or `verify` tells that something is wrong."""
    with new_path() as path:
        told = not told_ok(Path(shutil.copytree(damaged_store, path)))
    with new_path() as path:
        shutil.copytree(damaged_store, path)
        try:
            with opened(path, signing_key=key) as erase:
                result = CALLS[name][0](erase)
                after = shown(erase)
        except (EraseError, ScrubWarning):  # warnings are errors here
            return "refused"
        if (result, after) == right[name]:
            return "right"
        assert told or not told_ok(path), f"{result!r:.300}, and verify finds nothing wrong"
        return "wrong, and verify tells"


@pytest.mark.parametrize("shard", SHARDS)
def test_stores(
    closed: Path, key: Path, path: Path, shard: int, right: Right, rounds: Callable[[int, int], range]
) -> None:
    count: Counter[str] = Counter()
    failures: list[str] = []
    for seed in rounds(30, 2500):
        rng = random.Random(f"{shard} {seed}")
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(closed, path)
        how = damage_store(rng, path)
        for name in rng.sample(sorted(CALLS), 3):
            try:
                count[check_call(name, path, key, right)] += 1
            except Exception as error:
                failures.append(f"{shard} {seed}, {name} after {how}: {type(error).__name__}: {error}")
    print("stores:", dict(count))
    assert not failures, "\n".join(failures)
    assert count["right"]
    assert count["refused"]


@pytest.mark.parametrize("shard", SHARDS)
def test_key_files(
    closed: Path, key: Path, path: Path, shard: int, right: Right, rounds: Callable[[int, int], range]
) -> None:
    """Damage of the key file alone never gives a wrong result: a row opens as it was sealed, or not at all."""
    count: Counter[str] = Counter()
    failures: list[str] = []
    for seed in rounds(40, 2500):
        rng = random.Random(f"keys {shard} {seed}")
        name = rng.choice(sorted(CALLS))
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(closed, path)
        how = damage_keys(rng, path)
        try:
            with opened(path, signing_key=key) as erase:
                result = CALLS[name][0](erase)
                after = shown(erase)
        except EraseError:
            count["refused"] += 1
        except Exception as error:
            failures.append(f"{shard} {seed}, {name} after {how}: {type(error).__name__}: {error}")
        else:
            count["right"] += 1
            if (result, after) != right[name]:
                failures.append(f"{shard} {seed}, {name} after {how}: {result!r:.300} is wrong")
    print("key files:", dict(count))
    assert not failures, "\n".join(failures)
    assert count["right"]
    assert count["refused"]


@pytest.mark.parametrize("kind", [int, str])
def test_an_example_whose_slot_is_damaged_is_the_only_one_that_is_lost(
    path: Path, kind: type[int | str], rounds: Callable[[int, int], range]
) -> None:
    """It can be forgotten by its id, alone or with others; nothing else can be done before."""
    examples = [replace(each, id=kind(each.id)) for each in some(12)]
    with create(path, examples) as erase:
        before = erase.demonstrations()
    sound = contents(path)
    for seed in rounds(40, 2000):
        rng = random.Random(f"slot {seed}")
        lost = rng.sample(range(12), rng.choice((1, 1, 2, 12)))
        content = bytearray(sound["keys"])
        for slot in lost:
            place = slice(HEAD_BYTES + KEY_BYTES * slot, HEAD_BYTES + KEY_BYTES * (slot + 1))
            content[place] = rng.choice((bytes(KEY_BYTES), rng.randbytes(KEY_BYTES)))
        with new_path() as copy:
            shutil.copytree(path, copy)
            (copy / "keys").write_bytes(content)
            gone = {*(examples[slot].id for slot in lost), *(examples[i].id for i in rng.sample(range(12), 2))}
            with opened(copy) as erase:
                for call in (
                    erase.examples,
                    erase.demonstrations,
                    lambda: erase.ingest([replace(examples[0], id=kind(99))]),
                ):
                    refused(call, StoreError)
                others = [each.id for i, each in enumerate(examples) if i not in lost]
                if others:
                    refused(partial(erase.forget, others[0]), StoreError, "not named here", "nothing was forgotten")
                report = erase.forget(sorted(gone))
                assert {*report.ids} == gone
                assert report.prompts.before in ([], [[each.id for each in before]])
                kept = [each for each in examples if each.id not in gone]
                assert seen(erase) == seen_anew(copy) == fresh(kept)
                assert report.prompts.after == [[each.id for each in erase.demonstrations()]]
                refused(partial(erase.ingest, [examples[lost[0]]]), ForgottenError)
                assert report.receipt is not None
                assert len(report.receipt.rows) == len(gone)
