"""An artifact that someone else made leads nowhere outside its folder, whatever its manifest says."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from simfer.pipeline import manifest, shape
from simfer.pipeline.store import Store
from tests import fakes

FINGERPRINT = "0123456789abcdef"
HOSTILE: list[Any] = [None, True, 0, -1, 2**80, 1e308, "", "..", "\0", "/etc", "\ud800", [], [[]], {}, {"": {}}]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """Yield a file outside the store, of which nothing may change."""
    file = tmp_path / "victim.txt"
    file.write_text("hello")
    os.utime(file, (0, 0))
    yield file
    assert file.read_text() == "hello" and file.stat().st_mtime == 0


def build(store: Store) -> Path:
    with store.workplace("train", FINGERPRINT, lambda: None) as work:
        folder = work.open(keep=False)
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("hello")
        work.publish(fakes.entries(FINGERPRINT))
        return work.final


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a manifest, and give it the digest that anyone can compute."""
    content = json.loads((folder / manifest.NAME).read_text())
    del content["digest"]
    change(content)
    content["digest"] = manifest.digest(content)
    (folder / manifest.NAME).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name", ["../../../victim.txt", "{}", "sub/../../../../victim.txt", "sub//a.txt", "./a", "a\0b"]
)
@pytest.mark.parametrize("wrong", [True, False])
def test_a_name_that_leads_out_makes_a_manifest_unreadable(store: Store, victim: Path, name: str, wrong: bool) -> None:
    folder = build(store)
    record = {"sha256": manifest.file_digest(victim), "bytes": -1 if wrong else 5, "mtime_ns": 1}
    rewrite(folder, lambda content: content["files"].update({name.format(victim): record}))
    found = store.find("train", FINGERPRINT, thorough=True)
    assert not found.sound and found.damage.keys() == {manifest.NAME}
    repair(store, found.damage)


def repair(store: Store, damage: Any) -> None:
    with store.workplace("train", FINGERPRINT, lambda: None) as work:
        assert not work.adopt()
        work.reopen(damage)
        work.open(keep=True)


@pytest.mark.parametrize("link", ["sub/a.txt", "sub", "more"])
def test_a_link_is_damage_and_what_it_leads_to_stays(store: Store, victim: Path, link: str) -> None:
    folder, outside = build(store), victim.parent / "outside"
    (folder / "sub").rename(outside)
    if link == "sub":
        (folder / "sub").symlink_to(outside)
    else:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("hello")
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(victim)
    found = store.find("train", FINGERPRINT, thorough=True)
    assert found.damage == {link: "a link, and no file of this folder"}
    repair(store, found.damage)
    assert (outside / "a.txt").read_text() == "hello"


def test_a_folder_that_is_a_link_is_replaced_and_not_emptied(store: Store, tmp_path: Path) -> None:
    outside = build(store).rename(tmp_path / FINGERPRINT)
    (store.root / "train" / FINGERPRINT).symlink_to(outside)
    found = store.find("train", FINGERPRINT)
    assert found.damage == {manifest.NAME: "in a folder that is a link"}
    with store.workplace("train", FINGERPRINT, lambda: None) as work:
        work.discard()
    build(store)
    assert (outside / "sub" / "a.txt").read_text() == "hello" and not outside.is_symlink()


def test_a_copy_under_another_name_is_not_believed(store: Store) -> None:
    build(store).rename(store.root / "train" / ("f" * 16))
    found = store.find("train", "f" * 16)
    assert not found.sound and "of another artifact (train 0123456789abcdef)" in found.damage[manifest.NAME]


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "1" * 5000, "NaN", '{"format": 1, "x": Infinity}'])
def test_a_text_that_no_parser_likes_is_unreadable(store: Store, text: str) -> None:
    (build(store) / manifest.NAME).write_text(text)
    assert store.find("train", FINGERPRINT).damage.keys() == {manifest.NAME}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value in nested tables and lists."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def mutated(content: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a manifest with a value replaced, an entry taken out or one put in."""
    changed = deepcopy(content)
    *path, last = rng.choice([place for place in places(changed) if place])
    table = changed
    for key in path:
        table = table[key]
    kind = rng.randrange(3)
    if kind == 0:
        del table[last]
    elif kind == 1 and isinstance(table, dict):
        table[str(rng.choice(HOSTILE))] = rng.choice(HOSTILE)
    else:
        table[last] = rng.choice(HOSTILE)
    return changed


def test_manifests_of_any_shape_are_read_or_refused(store: Store, victim: Path) -> None:
    folder, rng, kinds = build(store), random.Random(0), set[bool]()
    content = json.loads((folder / manifest.NAME).read_text())
    content["summary"] |= {"tables": {"t": [{"a": 1}]}, "warnings": ["w"], "pictures": ["p.png"]}
    for _ in range(500):
        changed = mutated(content, rng)
        (folder / manifest.NAME).write_text(json.dumps(changed | {"digest": manifest.digest(rest(changed))}))
        found = store.find("train", FINGERPRINT, thorough=True)
        kinds.add(found.manifest is not None)
        assert found.manifest is None or not shape.wrong(found.manifest)
        assert all("\n" not in what for what in found.damage.values())
    assert kinds == {True, False}  # neither was all that was tried


def rest(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != "digest"}
