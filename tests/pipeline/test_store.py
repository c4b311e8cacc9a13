"""An artifact is there whole or not at all, and damage to it is found."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from simfer.pipeline import manifest
from simfer.pipeline.locks import Busy, lock
from simfer.pipeline.store import Store
from tests import fakes

FINGERPRINT = "0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def never() -> None:
    raise AssertionError("nothing to wait for")


def build(store: Store, text: str = "hello", fingerprint: str = FINGERPRINT) -> Path:
    with store.workplace("train", fingerprint, never) as work:
        folder = work.open(keep=False)
        (folder / "sub").mkdir()
        (folder / "a.txt").write_text(text)
        (folder / "sub" / "b.txt").write_text(text)
        work.publish(fakes.entries(fingerprint))
        return work.final


def leftovers(store: Store) -> list[str]:
    return [path.name for path in (store.root / "train").iterdir() if path.name.startswith(".")]


def test_what_is_published_is_found(store: Store) -> None:
    assert not store.find("train", FINGERPRINT).sound
    folder = build(store)
    found = store.find("train", FINGERPRINT, thorough=True)
    assert found.sound and found.manifest is not None
    assert folder == store.root / "train" / FINGERPRINT
    assert set(found.manifest["files"]) == {"a.txt", "sub/b.txt"}
    assert found.manifest["files"]["a.txt"]["bytes"] == 5
    assert found.manifest["summary"] == {"facts": {"x": None}}
    assert leftovers(store) == [] and list((store.root / ".locks").iterdir()) == []


def corrupt_same_size(file: Path) -> None:
    file.write_text("jello")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda file: file.write_text("hell"), "4 bytes instead of 5"),
        (corrupt_same_size, "its content has changed"),
        (lambda file: file.unlink(), "missing"),
    ],
)
def test_a_damaged_file_is_found(store: Store, change: Any, what: str) -> None:
    change(build(store) / "sub" / "b.txt")
    found = store.find("train", FINGERPRINT)
    assert not found.sound and found.damage == {"sub/b.txt": what}


def test_damage_behind_an_untouched_time_is_found_by_hashing(store: Store) -> None:
    file = build(store) / "a.txt"
    before = file.stat()
    file.write_text("jello")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.find("train", FINGERPRINT).sound  # the fast look, which reads no file
    assert store.find("train", FINGERPRINT, thorough=True).damage == {"a.txt": "its content has changed"}


def test_a_copy_without_its_times_is_hashed_just_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(build(store) / "a.txt")
    assert store.find("train", FINGERPRINT).sound
    monkeypatch.setattr(manifest, "file_digest", lambda path: pytest.fail("hashed again"))
    assert store.find("train", FINGERPRINT).sound


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 0}', '{"format": 1, "files": {}}'])
def test_a_broken_manifest_is_damage(store: Store, text: str) -> None:
    (build(store) / "manifest.json").write_text(text)
    assert set(store.find("train", FINGERPRINT).damage) == {"manifest.json"}
    assert list(store.manifests("train")) == []


def test_a_manifest_that_still_parses_is_checked_too(store: Store) -> None:
    path = build(store) / "manifest.json"
    content = json.loads(path.read_text())
    content["files"].pop("a.txt")
    path.write_text(json.dumps(content))
    assert store.find("train", FINGERPRINT).damage == {"manifest.json": "changed since it was written"}


def test_a_folder_without_a_manifest_does_not_count(store: Store) -> None:
    (build(store) / "manifest.json").unlink()
    assert not store.find("train", FINGERPRINT).sound


def test_building_again_replaces_and_a_failure_before_loses_nothing(store: Store) -> None:
    folder = build(store, "first")
    with pytest.raises(RuntimeError), store.workplace("train", FINGERPRINT, never) as work:
        (work.open(keep=False) / "a.txt").write_text("half")
        raise RuntimeError
    assert (folder / "a.txt").read_text() == "first" and store.find("train", FINGERPRINT).sound
    build(store, "second")
    assert (folder / "a.txt").read_text() == "second"
    assert leftovers(store) == []


def test_what_was_left_behind_is_kept_or_emptied(store: Store) -> None:
    for keep, expected in ((True, ["a.txt"]), (True, ["a.txt"]), (False, [])):
        with store.workplace("train", FINGERPRINT, never) as work:
            folder = work.open(keep=True)
            (folder / "a.txt").touch()
        with store.workplace("train", FINGERPRINT, never) as work:
            assert [path.name for path in work.open(keep=keep).iterdir()] == expected


def test_a_finished_folder_is_adopted_if_it_is_whole(store: Store) -> None:
    for text, adopted in (("hello", True), ("jello", False)):
        folder = build(store)
        building = folder.rename(folder.with_name(f".building-{FINGERPRINT}"))
        (building / "a.txt").write_text(text)
        with store.workplace("train", FINGERPRINT, never) as work:
            assert work.adopt() is adopted
            assert store.find("train", FINGERPRINT).sound is adopted
    assert not (building / "a.txt").exists()  # a stage that resumes must not take it for good
    assert (building / "sub" / "b.txt").exists()


def test_reopening_keeps_the_good_files(store: Store) -> None:
    build(store)
    with store.workplace("train", FINGERPRINT, never) as work:
        work.reopen(["a.txt"])
        folder = work.open(keep=True)
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == ["sub", "sub/b.txt"]
    build(store)
    with store.workplace("train", FINGERPRINT, never) as work:
        work.reopen(["sub/b.txt"])
        assert [path.name for path in work.open(keep=True).iterdir()] == ["a.txt"]  # an emptied folder is gone too
    assert not store.find("train", FINGERPRINT).sound


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path, waits = tmp_path / "locks" / "a", list[str]()
    with lock(path) as alone:
        assert alone
        with pytest.raises(Busy), lock(path):
            pass
        descriptor = os.open(path, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    with lock(path, lambda: waits.append("waited")):
        pass
    assert waits == []


def test_a_lock_that_was_waited_for_is_seen_by_others(tmp_path: Path) -> None:
    """Its file was unlinked by the one before: to hold that would be to hold nothing."""
    path, waiting, done = tmp_path / "a", threading.Event(), threading.Event()

    def wait() -> None:
        with lock(path, waiting.set):
            held.set()
            done.wait(10)

    held, thread = threading.Event(), threading.Thread(target=wait)
    with lock(path):
        thread.start()
        assert waiting.wait(10)
        assert not held.is_set()
    assert held.wait(10)
    with pytest.raises(Busy), lock(path):
        pass
    done.set()
    thread.join()


def test_a_race_without_locks_is_lost_quietly(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with store.workplace("train", FINGERPRINT, never) as work:
        (work.open(keep=True) / "a.txt").write_text("ours")
        theirs = build(store, "theirs")
        work.publish(fakes.entries(FINGERPRINT))
    assert (theirs / "a.txt").read_text() == "theirs"
    assert leftovers(store) == []


def test_no_store_yet(store: Store) -> None:
    assert list(store.manifests("train")) == []


def test_what_a_writer_left_half_written_is_not_published(store: Store) -> None:
    with store.workplace("train", FINGERPRINT, never) as work:
        folder = work.open(keep=True)
        (folder / "a.zarr").mkdir()
        (folder / "a.zarr" / "zarr.73fe.partial").touch()
        (folder / "a.zarr" / "zarr.json").touch()
    with store.workplace("train", FINGERPRINT, never) as work:
        work.open(keep=True)
        assert set(work.publish(fakes.entries(FINGERPRINT))["files"]) == {"a.zarr/zarr.json"}


def test_a_repair_that_is_killed_on_its_way_forgets_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest went first, and what it said was rotten was taken for good."""
    folder = build(store)
    (folder / "a.txt").write_text("rotten")

    def killed(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with (
        store.workplace("train", FINGERPRINT, never) as work,
        pytest.raises(KeyboardInterrupt),
        monkeypatch.context() as patch,
    ):
        patch.setattr(Path, "unlink", killed)
        work.reopen(["a.txt"])
    assert store.find("train", FINGERPRINT, thorough=True).damage.keys() == {"a.txt"}
