"""A sweep takes what nobody needs, and nothing that Simfer did not make."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simfer.pipeline import chain, runtime
from simfer.pipeline.chain import STAGES, UsageError
from simfer.pipeline.cli import app
from simfer.pipeline.leases import lease, leased
from simfer.pipeline.store import MARK, Store
from simfer.pipeline.sweep import sweep
from tests import fakes

FINGERPRINT, OTHER = "0123456789abcdef", "f" * 16


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def build(store: Store, fingerprint: str = FINGERPRINT) -> Path:
    with store.workplace("train", fingerprint, lambda: None) as work:
        (work.open(keep=False) / "a.txt").write_text("hello")
        work.publish(fakes.entries(fingerprint))
        return work.final


def test_only_what_nothing_refers_to(store: Store) -> None:
    kept, gone = build(store), build(store, OTHER)
    [dry] = sweep(store, STAGES, {FINGERPRINT}, dry_run=True)
    assert gone.exists() and dry.folder == gone and dry.num_bytes > 10
    assert sweep(store, STAGES, {FINGERPRINT}) == [dry]
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert sweep(store, STAGES, {FINGERPRINT}) == []


def test_only_what_is_old(store: Store) -> None:
    folder = build(store)
    assert sweep(store, STAGES, set(), older_than=3600) == []
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (0, 0))
    assert len(sweep(store, STAGES, set(), older_than=3600)) == 1


def test_nothing_that_is_being_built(store: Store) -> None:
    with store.workplace("train", FINGERPRINT, lambda: None) as work:
        folder = work.open(keep=False)
        assert sweep(store, STAGES, set()) == [] and folder.exists()
    assert [each.folder for each in sweep(store, STAGES, set())] == [folder]


def test_nothing_that_a_run_still_needs(store: Store) -> None:
    folder = build(store)
    with lease(store.root) as held:
        held.hold(FINGERPRINT)
        assert leased(store.root) == {FINGERPRINT}
        assert sweep(store, STAGES, set()) == [] and folder.exists()
    assert [each.folder for each in sweep(store, STAGES, set())] == [folder]
    assert list((store.root / ".leases").iterdir()) == []


def test_the_lease_of_a_run_that_was_killed_holds_nothing(store: Store) -> None:
    folder = build(store)
    held = f"from pathlib import Path; from simfer.pipeline.leases import Lease; Lease(Path({str(store.root)!r}))"
    fakes.python(f"{held}.hold({FINGERPRINT!r})")
    assert len(list((store.root / ".leases").iterdir())) == 1
    assert [each.folder for each in sweep(store, STAGES, set())] == [folder]


def test_what_a_killed_process_left(store: Store) -> None:
    old = store.root / "train" / f".old-{FINGERPRINT}-0123abcd"
    old.mkdir(parents=True)
    (store.root / MARK).touch()
    unfinished = store.root / "train" / f".building-{FINGERPRINT}"
    unfinished.mkdir()
    assert [each.folder for each in sweep(store, STAGES, {FINGERPRINT})] == [old]
    assert unfinished.exists()  # its config is kept, so it may be gone on with
    build(store).with_name(unfinished.name).mkdir()  # as of a --redo that was killed: no one goes on with that
    assert [each.folder for each in sweep(store, STAGES, {FINGERPRINT})] == [unfinished]


def test_no_store_yet(store: Store) -> None:
    assert sweep(store, STAGES, set()) == []


@pytest.fixture
def home(store: Store) -> Iterator[Path]:
    """Yield a folder with a store and much else in it, which must all be there in the end."""
    root, outside = store.root, store.root.parent / "outside"
    for name in ("thesis/chapters", "train/notes", "train/0123", "plots/0123456789abcdef", ".git/0123456789abcdef"):
        (root / name).mkdir(parents=True)
        (root / name / "mine.txt").write_text("mine")
    (outside / FINGERPRINT).mkdir(parents=True)
    (outside / FINGERPRINT / "mine.txt").write_text("mine")
    (root / "infer").symlink_to(outside)
    (root / "train" / OTHER).symlink_to(outside / FINGERPRINT)
    mine = [*root.rglob("mine.txt"), outside / FINGERPRINT / "mine.txt"]
    yield root
    assert [file.read_text() for file in mine] == ["mine"] * 6


def test_nothing_that_is_not_simfer_s(home: Path, store: Store) -> None:
    ours = build(store)
    assert [each.folder for each in sweep(store, STAGES, set())] == [ours]


def test_nothing_in_a_folder_that_is_no_store(home: Path, store: Store) -> None:
    (home / "check" / OTHER).mkdir(parents=True)  # named like an artifact, and none
    (home / "data" / "artifacts").mkdir(parents=True)
    (home / "data" / "artifacts" / MARK).touch()
    with pytest.raises(UsageError, match=r"is no store of Simfer's; there is .*data/artifacts"):
        sweep(store, STAGES, set())
    assert (home / "check" / OTHER).is_dir()


def test_a_store_of_before_it_was_marked_is_known_by_an_artifact(store: Store) -> None:
    build(store)
    (store.root / MARK).unlink()
    assert len(sweep(store, STAGES, set())) == 1


@pytest.mark.parametrize("store", ["", " "])
def test_a_store_without_a_name_is_refused(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chain, "run", fakes.run_stage)
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: [])
    monkeypatch.setattr(runtime, "prepare", lambda: None)
    config = fakes.write_project(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for command in ("clean", "run", "status"):
        result = CliRunner().invoke(app, [command, str(config), "--store", store])
        assert result.exit_code == 2 and "--store: got" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before
