"""Artifact folders: built beside, published by a rename, found sound or damaged, repaired, and swept.

`<store>/<stage>/<fingerprint>/` is an artifact once it has a manifest, which is written last. Until then it is being
built in `.building-<fingerprint>/`, by the one process that holds the lock `.locks/<stage>-<fingerprint>`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from simfer.pipeline import manifest as manifests
from simfer.pipeline.locks import Busy, lock
from simfer.pipeline.manifest import Manifest, Unreadable

_BUILDING, _OLD = ".building-", ".old-"


@dataclass(frozen=True)
class Found:
    """What the store has under a fingerprint: an artifact with its manifest, a damaged one, or nothing."""

    folder: Path
    manifest: Manifest | None = None
    damage: Mapping[str, str] = field(default_factory=dict)  # file -> what is wrong with it

    @property
    def sound(self) -> bool:
        """Say whether the artifact is there and whole."""
        return self.manifest is not None and not self.damage


@dataclass(frozen=True)
class Swept:
    """A folder that a sweep removed, or would remove."""

    folder: Path
    num_bytes: int


class Store:
    """A folder of artifacts."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: str, fingerprint: str) -> Path:
        """Return the folder that an artifact has, or would have."""
        return self.root / stage / fingerprint

    def find(self, stage: str, fingerprint: str, *, thorough: bool = False) -> Found:
        """Look an artifact up; its files are trusted by size and time, or hashed if `thorough`."""
        folder = self.folder(stage, fingerprint)
        return _examine(folder, thorough) if folder.is_dir() else Found(folder)

    def manifests(self, stage: str) -> Iterator[Manifest]:
        """Yield the manifest of every artifact of a stage."""
        for folder in sorted((self.root / stage).glob("[!.]*")):
            try:
                yield manifests.read(folder)
            except Unreadable:
                continue

    @contextmanager
    def workplace(self, stage: str, fingerprint: str, on_wait: Callable[[], None]) -> Iterator[Workplace]:
        """Take the right to build an artifact; if another process has it, tell `on_wait` and wait for it."""
        with lock(self._lock(stage, fingerprint), on_wait) as alone:
            name = _BUILDING + fingerprint + ("" if alone else f"-{uuid4().hex[:8]}")
            yield Workplace(self.folder(stage, fingerprint), self.root / stage / name, alone)

    def sweep(self, keep: Collection[str], older_than: float = 0.0, dry_run: bool = False) -> list[Swept]:
        """Remove what has no fingerprint in `keep`, is older than so many seconds, and is not being built."""
        folders = [folder for folder in sorted(self.root.glob("[!.]*/*")) if folder.is_dir()]
        return [swept for folder in folders if (swept := self._sweep(folder, keep, older_than, dry_run))]

    def _sweep(self, folder: Path, keep: Collection[str], older_than: float, dry_run: bool) -> Swept | None:
        fingerprint = _fingerprint(folder)
        if fingerprint in keep and not folder.name.startswith(_OLD):
            return None
        try:
            with lock(self._lock(folder.parent.name, fingerprint)) as alone:
                files = [place.stat() for place in (folder, *folder.rglob("*"))]
                is_recent = time.time() - max(file.st_mtime for file in files) < older_than
                if is_recent or (folder.name.startswith(_BUILDING) and not alone):
                    return None
                if not dry_run:
                    _drop(folder)
        except (Busy, FileNotFoundError):  # being built, or just published or swept by another process
            return None
        return Swept(folder, sum(file.st_size for file in files))

    def _lock(self, stage: str, fingerprint: str) -> Path:
        return self.root / ".locks" / f"{stage}-{fingerprint}"


@dataclass(frozen=True)
class Workplace:
    """The right to build one artifact."""

    final: Path
    building: Path
    alone: bool  # False where the file system has no locks: others may be building it as well

    def adopt(self) -> bool:
        """Publish what a process left that was killed between the manifest and the rename, if it did."""
        left = _examine(self.building, thorough=True)
        if left.sound:
            self._swap_in()
        elif left.manifest:
            _delete(self.building, left.damage)
        return left.sound

    def reopen(self, damaged: Iterable[str]) -> None:
        """Make a damaged artifact into an unfinished one, without its damaged files."""
        shutil.rmtree(self.building, ignore_errors=True)
        _delete(self.final, (manifests.NAME, *damaged))
        self.final.rename(self.building)

    def discard(self) -> None:
        """Remove what is published."""
        _drop(self.final)

    def open(self, *, keep: bool) -> Path:
        """Return the folder to build in: with what a killed process left there if `keep`, otherwise empty."""
        if not keep:
            shutil.rmtree(self.building, ignore_errors=True)
        self.building.mkdir(parents=True, exist_ok=True)
        (self.building / manifests.NAME).unlink(missing_ok=True)
        return self.building

    def publish(self, entries: Mapping[str, Any]) -> Manifest:
        """Give the folder its manifest and its name; what had the name before is replaced."""
        manifests.seal(self.building, entries)
        self._swap_in()
        return manifests.read(self.final)

    def _swap_in(self) -> None:
        if not self.alone and self.final.is_dir() and _examine(self.final, thorough=False).sound:
            shutil.rmtree(self.building)  # the race is lost, and theirs is as good as ours
            return
        _set_aside(self.final)
        self.building.rename(self.final)
        manifests.sync(self.final.parent)
        _remove_set_aside(self.final)


def _examine(folder: Path, thorough: bool) -> Found:
    try:
        manifest = manifests.read(folder)
    except Unreadable as error:
        return Found(folder, None, {manifests.NAME: str(error)})
    return Found(folder, manifest, manifests.damage(folder, manifest, thorough=thorough))


def _delete(folder: Path, names: Iterable[str]) -> None:
    """Remove files, and the folders that this empties: to a stage that resumes, one may mean that a part is done."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
        for parent in list((folder / name).parents)[: len(Path(name).parts) - 1]:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _drop(folder: Path) -> None:
    """Remove a folder, which is gone from its place at once and not file by file."""
    _set_aside(folder)
    _remove_set_aside(folder)


def _set_aside(folder: Path) -> None:
    if folder.exists():
        folder.rename(folder.with_name(f"{_OLD}{_fingerprint(folder)}-{uuid4().hex[:8]}"))


def _remove_set_aside(folder: Path) -> None:
    for left in folder.parent.glob(f"{_OLD}{_fingerprint(folder)}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _fingerprint(folder: Path) -> str:
    return folder.name.removeprefix(_BUILDING).removeprefix(_OLD).partition("-")[0]
