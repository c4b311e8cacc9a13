"""What two machines must have in common to give the same rows: versions of Python, of libraries, and our own code."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = {
    "python": ("numpy", "scipy"),
    "jax": ("numpy", "jax", "jaxlib", "equinox", "diffrax", "lineax", "optimistix"),
}
_OURS = "code of Simfer"


@lru_cache(maxsize=4)
def versions(kind: str) -> dict[str, str]:
    """Return what rows of a kind of simulator depend on, on this machine."""
    libraries = {name: _version(name) for name in _LIBRARIES.get(kind, ("numpy",))}
    return {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", **libraries, _OURS: _code()}


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Say what differs, in words."""
    return ", ".join(f"{name} {there.get(name)} (here {own})" for name, own in here.items() if there.get(name) != own)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _code() -> str:
    """Return the digest of all that lies below stages/, for versions alone do not tell two checkouts apart."""
    digest, stages = hashlib.sha256(), Path(__file__).resolve().parents[2]
    for file in sorted(stages.rglob("*.py")):
        digest.update(file.relative_to(stages).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
