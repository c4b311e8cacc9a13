"""The manifest of an artifact: what it was made from and by, and the digest of every file in it."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from simfer.pipeline import shape

FORMAT = 1
NAME = "manifest.json"
_LARGEST = 2**30  # bytes: a manifest has some two hundred for each file
Manifest = dict[str, Any]


class Unreadable(Exception):
    """A manifest that is missing, or not what was written."""


def canonical(value: Any) -> str:
    """Write a value as JSON in the one way that equal values share."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content; of a folder (a Zarr store), of the names and contents of all in it."""
    if path.is_dir():
        inner = sorted(file for file in path.rglob("*") if file.is_file())
        return digest([[file.relative_to(path).as_posix(), file_digest(file)] for file in inner])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, entries: Mapping[str, Any], identify: Callable[[Manifest], Manifest] | None = None) -> Manifest:
    """Bring every file of `folder` safely to disk, and then write its manifest, whole or not at all.

    `identify` gives further entries, once the files are known.
    """
    files = {file.relative_to(folder).as_posix(): _record(file) for file in sorted(_files(folder))}
    manifest = {"format": FORMAT, **plain(entries), "files": files}
    manifest |= identify(manifest) if identify else {}
    manifest["digest"] = digest(manifest)
    for place in (*folder.rglob("*"), folder):
        if place.is_dir() or place.relative_to(folder).as_posix() in files:
            sync(place)
    temporary = folder / f".{NAME}"
    temporary.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    sync(temporary)
    temporary.replace(folder / NAME)
    sync(folder)
    return manifest


def read(folder: Path, fingerprint: str) -> Manifest:
    """Read the manifest of an artifact's folder; raise `Unreadable` unless it is just as it was written, and there."""
    try:
        if folder.is_symlink():
            raise Unreadable("in a folder that is a link")
        manifest = json.loads(_text(folder / NAME))
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise Unreadable("not of this version of Simfer")
        if manifest.get("digest") != digest({key: value for key, value in manifest.items() if key != "digest"}):
            raise Unreadable("changed since it was written")
    except FileNotFoundError:
        raise Unreadable("missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"unreadable ({error})") from None
    if what := shape.wrong(manifest):
        raise Unreadable(f"not what Simfer writes ({what})")
    if (manifest["stage"], manifest["fingerprint"]) != (folder.parent.name, fingerprint):
        raise Unreadable(f"of another artifact ({manifest['stage']} {manifest['fingerprint']}), copied or renamed")
    return manifest


def _text(file: Path) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, encoding="utf-8") as stream:
        if (size := os.fstat(descriptor).st_size) > _LARGEST:
            raise ValueError(f"{size} bytes, more than any that Simfer writes")
        return stream.read()


def damage(folder: Path, manifest: Manifest, *, thorough: bool = False) -> dict[str, str]:
    """Say of each file that is not as the manifest has it what is wrong; untouched ones are hashed if `thorough`.

    A link is damage wherever it lies: what is in an artifact is read, mended and removed, and a link leads elsewhere.
    """
    found = {link.relative_to(folder).as_posix(): "a link, and no file of this folder" for link in links(folder)}
    if not found:
        found = {name: _wrong(folder / name, record, thorough) for name, record in manifest["files"].items()}
    return {name: what for name, what in found.items() if what}


def links(folder: Path) -> list[Path]:
    """List the links in a folder, at any depth; none is followed."""
    places = ((Path(root), names) for root, *kinds in os.walk(folder) for names in kinds)
    return [root / name for root, names in places for name in names if (root / name).is_symlink()]


def _wrong(file: Path, record: Mapping[str, Any], thorough: bool) -> str:
    try:
        seen = file.stat()
        if seen.st_size != record["bytes"]:
            return f"{seen.st_size} bytes instead of {record['bytes']}"
        if seen.st_mtime_ns == record["mtime_ns"] and not thorough:
            return ""
        if file_digest(file) != record["sha256"]:
            return "its content has changed"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror})"
    _restore_time(file, record["mtime_ns"])
    return ""


def _restore_time(file: Path, mtime_ns: int) -> None:
    """Set a file's time back to the recorded one (a copy has lost it), so that it need not be hashed again."""
    try:
        if file.stat().st_mtime_ns != mtime_ns:
            os.utime(file, ns=(mtime_ns, mtime_ns))
    except OSError:
        pass  # not ours to change, and only speed is lost


def _files(folder: Path) -> Iterator[Path]:
    own = {folder / NAME, folder / f".{NAME}"}
    return (file for file in folder.rglob("*") if file.is_file() and file not in own)


def _record(file: Path) -> dict[str, Any]:
    seen = file.stat()
    return {"sha256": file_digest(file), "bytes": seen.st_size, "mtime_ns": seen.st_mtime_ns}


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain(value: Any) -> Any:
    """Make a value fit for JSON: NumPy scalars become Python's, and numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
