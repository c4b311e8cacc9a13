"""Artifact folders: built beside, published by a rename, found sound or damaged, and repaired.

`<store>/<stage>/<fingerprint>/` is an artifact once it has a manifest, which is written last. Until then it is being
built in `.building-<fingerprint>/`, by the one process that holds the lock `.locks/<stage>-<fingerprint>`. The store
itself has a mark: what has none is not swept. Links are never followed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from simfer.pipeline import manifest as manifests
from simfer.pipeline.locks import lock
from simfer.pipeline.manifest import Manifest, Unreadable
from simfer.pipeline.remote import Remote

BUILDING, OLD = ".building-", ".old-"
MARK = ".simfer-store"
_SAYS = "Simfer keeps artifacts here; `simfer clean` removes those that no config needs.\n"
_HALF_WRITTEN = "*.partial"  # what Zarr calls a file until it is whole


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


class Store:
    """A folder of artifacts."""

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        self.root, self.remote = root, remote
        self._looked_for: set[str] = set()  # in the bucket, by this process
        self._sent: set[str] = set()

    def folder(self, stage: str, fingerprint: str) -> Path:
        """Return the folder that an artifact has, or would have."""
        return self.root / stage / fingerprint

    def asked(self, fingerprint: str) -> Path:
        """Return the folder in which what was asked and told for a step is kept; no sweep comes near it."""
        return self.root / "asked" / fingerprint

    def find(self, stage: str, fingerprint: str, *, thorough: bool = False) -> Found:
        """Look an artifact up; its files are trusted by size and time, or hashed if `thorough`."""
        folder = self.folder(stage, fingerprint)
        if self.remote and not folder.is_dir():
            self._pull(stage, fingerprint)
        return _examine(folder, thorough) if folder.is_dir() else Found(folder)

    def _pull(self, stage: str, fingerprint: str) -> None:
        """Fetch an artifact that the bucket has and this machine has not: beside, and then by a rename."""
        assert self.remote is not None
        if fingerprint in self._looked_for:
            return
        self._looked_for.add(fingerprint)
        final = self.folder(stage, fingerprint)
        beside = final.with_name(f"{BUILDING}{fingerprint}-{uuid4().hex[:8]}")
        try:
            if self.remote.pull(stage, fingerprint, beside):
                self._mark()
                with suppress(OSError):  # another process was faster
                    beside.rename(final)
                self._sent.add(fingerprint)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def share(self, stage: str, folder: Path, manifest: Manifest) -> Manifest:
        """Send a sound artifact to the bucket, if there is one; where another's was there first, take that."""
        fingerprint = str(manifest["fingerprint"])
        if self.remote is None or fingerprint in self._sent:
            return manifest
        is_ours = self.remote.push(stage, folder, manifest)
        self._sent.add(fingerprint)
        if is_ours:
            return manifest
        self._looked_for.discard(fingerprint)
        drop(folder)
        self._pull(stage, fingerprint)
        return manifests.read(folder, fingerprint)

    def manifests(self, stage: str) -> Iterator[Manifest]:
        """Yield the manifest of every artifact of a stage."""
        for folder in sorted((self.root / stage).glob("[!.]*")):
            try:
                yield manifests.read(folder, fingerprint_of(folder))
            except Unreadable:
                continue

    def begun(self, stage: str, fingerprint: str) -> list[Path]:
        """Return the folders that an artifact, or what is there of it, lies in: whole first."""
        names = [self.folder(stage, fingerprint), self.root / stage / (BUILDING + fingerprint)]
        return [folder for folder in names if folder.is_dir()]

    @contextmanager
    def workplace(self, stage: str, fingerprint: str, on_wait: Callable[[], None]) -> Iterator[Workplace]:
        """Take the right to build an artifact; if another process has it, tell `on_wait` and wait for it."""
        with self.lock(stage, fingerprint, on_wait) as alone:
            self._mark()
            name = BUILDING + fingerprint + ("" if alone else f"-{uuid4().hex[:8]}")
            yield Workplace(self.folder(stage, fingerprint), self.root / stage / name, alone)

    def lock(
        self, stage: str, fingerprint: str, on_wait: Callable[[], None] | None = None
    ) -> AbstractContextManager[bool]:
        """Hold what only one process builds or sweeps at a time; without `on_wait`, what another holds is `Busy`."""
        return lock(self.root / ".locks" / f"{stage}-{fingerprint}", on_wait)

    @property
    def is_marked(self) -> bool:
        """Whether Simfer made this folder a store, or built in it since it marks stores."""
        return (self.root / MARK).is_file()

    def _mark(self) -> None:
        if not self.is_marked:
            (self.root / MARK).write_text(_SAYS, encoding="utf-8")


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
        """Make a damaged artifact into an unfinished one, without its damaged files.

        The manifest, which says what they are, goes last: killed on the way, the next one finds the same damage.
        """
        shutil.rmtree(self.building, ignore_errors=True)
        _delete(self.final, [name for name in damaged if name != manifests.NAME])
        self.final.rename(self.building)
        (self.building / manifests.NAME).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what is published."""
        drop(self.final)

    def open(self, *, keep: bool) -> Path:
        """Return the folder to build in: with what a killed process left there if `keep`, otherwise empty."""
        if not keep:
            shutil.rmtree(self.building, ignore_errors=True)
        self.building.mkdir(parents=True, exist_ok=True)
        for half_written in (self.building / manifests.NAME, *self.building.rglob(_HALF_WRITTEN)):
            half_written.unlink(missing_ok=True)
        return self.building

    def publish(self, entries: Mapping[str, Any], identify: Callable[[Manifest], Manifest] | None = None) -> Manifest:
        """Give the folder its manifest and its name; what had the name before is replaced."""
        manifests.seal(self.building, entries, identify)
        self._swap_in()
        return manifests.read(self.final, fingerprint_of(self.final))

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
        manifest = manifests.read(folder, fingerprint_of(folder))
    except Unreadable as error:
        return Found(folder, None, {manifests.NAME: str(error)})
    return Found(folder, manifest, manifests.damage(folder, manifest, thorough=thorough))


def _delete(folder: Path, names: Iterable[str]) -> None:
    """Remove files, and the folders that this empties: to a stage that resumes, one may mean that a part is done."""
    for link in manifests.links(folder):  # so that every name below leads to a file that lies in the folder
        link.unlink()
    for name in names:
        (folder / name).unlink(missing_ok=True)
        for parent in list((folder / name).parents)[: len(Path(name).parts) - 1]:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def drop(folder: Path) -> None:
    """Remove a folder, which is gone from its place at once and not file by file."""
    _set_aside(folder)
    _remove_set_aside(folder)


def _set_aside(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()  # whatever it leads to is not the store's
    elif folder.exists():
        folder.rename(folder.with_name(f"{OLD}{fingerprint_of(folder)}-{uuid4().hex[:8]}"))


def _remove_set_aside(folder: Path) -> None:
    for left in folder.parent.glob(f"{OLD}{fingerprint_of(folder)}-*"):
        shutil.rmtree(left, ignore_errors=True)


def fingerprint_of(folder: Path) -> str:
    """Return the fingerprint in the name of an artifact's folder, published or not."""
    return folder.name.removeprefix(BUILDING).removeprefix(OLD).partition("-")[0]
