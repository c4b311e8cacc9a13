"""A project's folder: how one is started, and how what it no longer needs is swept away."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from simfer.pipeline import config
from simfer.pipeline.chain import STAGES, Mistake, UsageError
from simfer.pipeline.plan import kept
from simfer.pipeline.remote import is_remote
from simfer.pipeline.store import Store
from simfer.pipeline.studies import STUDIES
from simfer.pipeline.sweep import Swept
from simfer.pipeline.sweep import sweep as sweep_store

_TEMPLATES = Path(__file__).parent / "templates"
_FORMER = ("ranking", "contrast")  # studies that have other names now; what they left is no one's
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def start(directory: Path) -> Path:
    """Put a problem that runs as it is into a new folder; return its config."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError([Mistake(str(directory), "is there already and not empty; name a new folder")])
    directory.mkdir(parents=True, exist_ok=True)
    for template in _TEMPLATES.iterdir():
        if template.is_file():
            (directory / template.name).write_bytes(template.read_bytes())
    return directory / "problem.toml"


def sweep(named: Sequence[Path], older_than: str, dry_run: bool, chosen: str | None) -> list[Swept]:
    """Remove the artifacts that no config in configs/, or among those `named`, refers to."""
    project = config.project_folder(named[0]) if named else Path.cwd()
    configs = [*named, *sorted(project.glob("configs/*.toml"))]
    if not configs:
        what = "no configs there, so everything would go; name the configs whose artifacts to keep"
        raise UsageError([Mistake(str(project / "configs"), what)])
    if is_remote(chosen):
        what = (
            f"got {chosen}; only what is on this machine is swept, which is the second level's copy: leave --store out"
        )
        raise UsageError([Mistake("--store", what)])
    store = Store(config.store_folder(project, chosen))
    keep = {name for path in configs for name in kept(config.load(path), store)}
    return sweep_store(store, [*STAGES, *STUDIES, *_FORMER], keep, seconds("--older-than", older_than), dry_run)


def seconds(option: str, text: str) -> float:
    """Return how long a time is that was typed as an option.

    Raises:
        UsageError: It is none.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _SECONDS or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", number):
        raise UsageError([Mistake(option, f'got "{text}", expected a time such as 30d, 12h or 45m')])
    return float(number) * _SECONDS[unit]
