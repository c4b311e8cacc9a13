"""A problem in one file, for a colleague or a journal: config, code, data, artifacts and versions, with digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from simfer.pipeline import config, runtime
from simfer.pipeline.chain import Mistake, Problem, UsageError
from simfer.pipeline.manifest import file_digest
from simfer.pipeline.plan import Plan, files_of, user_files
from simfer.pipeline.store import Store

_LIST = "packed.json"  # what is in the file: written first, read first
_FORMAT = 1
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry: the same problem is the same file
_BLOCK = 2**20
_LONGEST_LIST = 2**28  # bytes

Answer = dict[str, Any]


def pack(file: Path, problem: Problem, store: Store, output: Path) -> Answer:
    """Write a config, what it names, and what the store has for it, into a ZIP file.

    Raises:
        UsageError: The config names a file by a path that only this machine has.
    """
    own = {file.resolve(), *user_files(problem), *_inside(files_of(problem))}
    _refuse_absolute(file, own)
    project = config.project_folder(file)
    root = Path(os.path.commonpath([project, *(each.parent for each in own)]))
    names = {each: each.relative_to(root).as_posix() for each in own}
    place = (project / "data" / "artifacts").relative_to(root)
    names |= {each: (place / each.relative_to(store.root)).as_posix() for each in _artifacts(problem, store)}
    listed = {name: {"sha256": file_digest(each), "bytes": each.stat().st_size} for each, name in sorted(names.items())}
    content = {
        "format": _FORMAT,
        "config": names[file.resolve()],
        "versions": runtime.versions(),
        "files": listed,
    }
    partial = output.with_name(f".{output.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            packed.writestr(zipfile.ZipInfo(_LIST, _EPOCH), json.dumps(content, indent=1))
            for each, name in sorted(names.items(), key=lambda pair: pair[1]):
                _add(packed, each, name)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    facts = {"file": str(output), "bytes": output.stat().st_size, "files": len(names)}
    return {"facts": facts | {"artifacts": sum(name.endswith("/manifest.json") for name in names.values())}}


def unpack(packed: Path, folder: Path) -> Answer:
    """Write what was packed into a new folder, whole and as it was, or not at all.

    Raises:
        UsageError: It is no such file, was changed since it was packed, or names places outside the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise _refusal(folder, "is there already and not empty; name a new folder")
    temporary = folder.with_name(f".{folder.name}.unpacking-{uuid4().hex[:8]}")
    try:
        with zipfile.ZipFile(packed) as opened:
            content = _listed(packed, opened)
            for name, record in content["files"].items():
                _extract(packed, opened, name, record, temporary)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _refusal(packed, f"cannot be unpacked: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    code = [name for name in content["files"] if name.endswith(".py") and "/artifacts/" not in name]
    now, warnings = runtime.versions(), []
    if code:
        warnings.append(f"there is code in it, which runs when the config does: look at it first ({', '.join(code)})")
    other = [f"{n} {v} (here {now.get(n)})" for n, v in content["versions"].items() if now.get(n) != v]
    if other:
        warnings.append(f"it was made with other versions: {', '.join(other)}")
    return {"facts": {"config": str(folder / content["config"]), "files": len(content["files"])}, "warnings": warnings}


def _inside(places: set[Path]) -> set[Path]:
    """Return files as they are, and of folders (a Zarr store) the files in them."""
    return {
        file.resolve() for each in places for file in (each.rglob("*") if each.is_dir() else [each]) if file.is_file()
    }


def _refuse_absolute(file: Path, own: set[Path]) -> None:
    text = file.read_text(encoding="utf-8-sig")
    for each in sorted(own):
        if str(each) in text:
            raise _refusal(file, f"names {each}, which another machine does not have; write it relative to the config")


def _artifacts(problem: Problem, store: Store) -> Iterator[Path]:
    """Yield every file of what the store has for a problem, and of what was asked and told for it."""
    plan = Plan(problem, store)
    for step in list(plan.walk()):
        found = plan.find(step, thorough=True)
        if found.sound and found.manifest:
            yield found.folder / "manifest.json"
            yield from (found.folder / name for name in found.manifest["files"])
        ledger = store.asked(step.fingerprint)
        yield from (each for each in sorted(ledger.rglob("*")) if each.is_file() and not each.name.startswith("."))


def _add(packed: zipfile.ZipFile, file: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.file_size = file.stat().st_size
    with file.open("rb") as source, packed.open(entry, "w") as target:
        shutil.copyfileobj(source, target, _BLOCK)


def _listed(packed: Path, opened: zipfile.ZipFile) -> dict[str, Any]:
    """Read what is in the file; every entry must be listed, and every name stay in the folder."""
    try:
        with opened.open(_LIST) as stream:
            content = json.loads(stream.read(_LONGEST_LIST))
        files = content["files"]
        known = content["format"] == _FORMAT and isinstance(content["versions"], dict) and content["config"] in files
        known = known and all(isinstance(r["bytes"], int) and len(r["sha256"]) == 64 for r in files.values())
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise _refusal(packed, "is no file of `simfer pack`, or of another version of it")
    for name in files:
        if not _stays_inside(name):
            raise _refusal(packed, f"names {name!r}, which does not stay in its folder; nothing was unpacked")
    entries = [entry.filename for entry in opened.infolist()]
    if sorted(entries) != sorted([_LIST, *files]):
        raise _refusal(packed, "holds other files than it lists; nothing was unpacked")
    return dict(content)


def _stays_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    plain = "/".join(parts) == name and not any(part in ("", ".", "..", "/") or ":" in part for part in parts)
    return bool(parts) and plain and "\\" not in name and "\0" not in name


def _extract(packed: Path, opened: zipfile.ZipFile, name: str, record: Mapping[str, Any], folder: Path) -> None:
    """Write one file, as long as it is what the list says: a digest is compared before anybody reads it."""
    target, seen, digest = folder / name, 0, hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(name) as source, target.open("xb") as out:
        while block := source.read(_BLOCK):
            seen += len(block)
            if seen > record["bytes"]:
                break
            digest.update(block)
            out.write(block)
    if seen != record["bytes"] or digest.hexdigest() != record["sha256"]:
        raise _refusal(packed, f"{name} is not what was packed: it was changed, or cut off; nothing was unpacked")


def _refusal(place: Path, what: str) -> UsageError:
    return UsageError([Mistake(str(place), what)])
