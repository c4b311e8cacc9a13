"""The files that a row needs, known by their digest: used where they lie if the worker sees the same, or sent once."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from simfer.stages.errors import StageError
from simfer.stages.simulate.engines.scratch import scratch

_MOST = 2**28  # bytes that are sent to a worker
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Sources(NamedTuple):
    """Files below one folder, and the digest of all of them."""

    root: str
    digests: dict[str, str]  # relative path -> digest of the content, and of whether it may be executed
    digest: str


def sources_of(files: Iterable[Path]) -> Sources:
    """Describe files as they are now."""
    full = sorted({file.resolve() for file in files})
    if not full:
        return Sources("", {}, "")
    root = os.path.commonpath([file.parent for file in full])
    digests = {file.relative_to(root).as_posix(): _digest(file) for file in full}
    return Sources(root, digests, hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest())


def packed(sources: Sources) -> bytes:
    """Return the files as one ZIP file in memory.

    Raises:
        StageError: They are too large to be sent: a file system that all machines see is the way then.
    """
    size = sum(Path(sources.root, name).stat().st_size for name in sources.digests)
    if size > _MOST:
        raise StageError(
            f"the files of the simulator are {size / 1e6:,.0f} MB, too much to be sent to workers, which do not see "
            f"them under {sources.root}: put them on a file system that is there under the same path on all machines"
        )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name in sources.digests:
            file.writestr(zipfile.ZipInfo(name, _EPOCH), Path(sources.root, name).read_bytes())
    return out.getvalue()


def place(sources: Sources, sent: bytes) -> str | None:
    """Return the folder under which a worker has the files; None where they must be sent first."""
    if not sources.digest:
        return ""
    if _are_at(sources.root, sources.digest, tuple(sources.digests.items())):
        return sources.root
    folder = scratch() / "sources" / sources.digest
    if not _hold(folder, sources.digests):
        if not sent:
            return None
        _unpack(sent, folder, sources.digests)
    return str(folder)


def relocated(value: Any, sources: Sources, root: str) -> Any:
    """Return plain data in which the paths of the files, and "file.py:Name", are those under another folder."""
    if root == sources.root:
        return value
    if isinstance(value, Mapping):
        return {name: each if name == "key" else relocated(each, sources, root) for name, each in value.items()}
    if isinstance(value, list):
        return [relocated(each, sources, root) for each in value]
    if isinstance(value, str):
        file, colon, name = value.rpartition(":") if ".py:" in value else (value, "", "")
        if Path(file).is_absolute() and Path(file).is_relative_to(sources.root):
            relative = Path(file).relative_to(sources.root).as_posix()
            return f"{root}/{relative}{colon}{name}" if relative in sources.digests else value
    return value


def _digest(file: Path) -> str:
    digest = hashlib.sha256(b"x" if os.access(file, os.X_OK) else b"-")
    with file.open("rb") as content:
        while block := content.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@lru_cache(maxsize=16)
def _are_at(root: str, digest: str, digests: tuple[tuple[str, str], ...]) -> bool:
    return _hold(Path(root), dict(digests))


def _hold(folder: Path, digests: Mapping[str, str]) -> bool:
    try:
        return all(_digest(folder / name) == digest for name, digest in digests.items())
    except OSError:
        return False


def _unpack(sent: bytes, folder: Path, digests: Mapping[str, str]) -> None:
    """Write what was sent beside its place, and put it there once it is what its digest says."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpacking-"))
    try:
        with zipfile.ZipFile(io.BytesIO(sent)) as file:
            for name, digest in digests.items():
                target = temporary / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read(name))
                for mode in (0o700, 0o600):
                    target.chmod(mode)
                    if _digest(target) == digest:
                        break
                else:
                    raise StageError(f"{name}: what was sent is not what its digest says")
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
