"""Sweeping: which folders of a store may go. Nothing goes that Simfer did not make."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from simfer.pipeline import leases
from simfer.pipeline.chain import Mistake, UsageError
from simfer.pipeline.locks import Busy
from simfer.pipeline.store import BUILDING, OLD, Store, drop, fingerprint_of

# An artifact's folder; one that is being built, by its owner or in a race without locks; one that was set aside.
_OURS = re.compile(rf"[0-9a-f]{{16}}|{re.escape(BUILDING)}[0-9a-f]{{16}}(-[0-9a-f]{{8}})?|"
                   rf"{re.escape(OLD)}[0-9a-f]{{16}}-[0-9a-f]{{8}}")  # fmt: skip


@dataclass(frozen=True)
class Swept:
    """A folder that a sweep removed, or would remove."""

    folder: Path
    num_bytes: int


@dataclass(frozen=True)
class _Spared:
    """What stays: by fingerprint, and by age."""

    keep: Collection[str]
    seconds: float


def sweep(
    store: Store, stages: Collection[str], keep: Collection[str], older_than: float = 0.0, dry_run: bool = False
) -> list[Swept]:
    """Remove artifacts of these stages with no fingerprint in `keep`, older than so many seconds, and in no one's use.

    Raises:
        UsageError: The folder is none that Simfer keeps artifacts in.
    """
    if not store.root.is_dir():
        return []
    if not store.is_marked and not any(_artifacts(store, stages)):
        raise UsageError([Mistake("--store", f"{store.root} is no store of Simfer's{_nearby(store, stages)}")])
    with leases.alone(store.root):
        spared = _Spared({*keep, *leases.leased(store.root)}, older_than)
        return [swept for folder in _folders(store, stages) if (swept := _sweep(store, folder, spared, dry_run))]


def _folders(store: Store, stages: Collection[str]) -> Iterator[Path]:
    """Yield the folders that Simfer made; a link is not followed, wherever it leads."""
    for stage in sorted(stages):
        if (store.root / stage).is_symlink() or not (store.root / stage).is_dir():
            continue
        for folder in sorted((store.root / stage).iterdir()):
            if _OURS.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                yield folder


def _artifacts(store: Store, stages: Collection[str]) -> Iterator[Path]:
    """Yield those that are artifacts: what tells a store of before it was marked."""
    yield from (folder for folder in _folders(store, stages) if store.find(folder.parent.name, folder.name).manifest)


def _nearby(store: Store, stages: Collection[str]) -> str:
    """Name the stores below a folder that is none."""
    below = (Store(each) for pattern in ("*", "*/*") for each in sorted(store.root.glob(pattern)) if each.is_dir())
    near = [str(each.root) for each in below if each.is_marked or any(_artifacts(each, stages))]
    return f"; there is {', '.join(near[:3])}" if near else "; expected the folder of the artifacts"


def _sweep(store: Store, folder: Path, spared: _Spared, dry_run: bool) -> Swept | None:
    stage, fingerprint = folder.parent.name, fingerprint_of(folder)
    if fingerprint in spared.keep and not _is_left_behind(store, folder):
        return None
    try:
        with store.lock(stage, fingerprint) as alone:
            files = [place.lstat() for place in (folder, *folder.rglob("*"))]
            is_recent = time.time() - max(file.st_mtime for file in files) < spared.seconds
            if is_recent or (folder.name.startswith(BUILDING) and not alone):
                return None
            if not dry_run:
                drop(folder)
    except (Busy, FileNotFoundError):  # being built, or just published or swept by another process
        return None
    return Swept(folder, sum(file.st_size for file in files))


def _is_left_behind(store: Store, folder: Path) -> bool:
    """Say whether a folder is of no use even to those who want its artifact: that is there, and whole."""
    if folder.name.startswith(OLD):
        return True
    return folder.name.startswith(BUILDING) and store.find(folder.parent.name, fingerprint_of(folder)).sound
