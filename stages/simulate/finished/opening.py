"""The files of a table, opened and put together as one."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from simfer.stages.errors import SimferError
from simfer.stages.model.space import Space
from simfer.stages.settings import RunTable
from simfer.stages.simulate.finished.arrays import OPENERS, Arrays
from simfer.stages.simulate.finished.columns import RUN
from simfer.stages.simulate.finished.file import RunFile, refuse
from simfer.stages.simulate.finished.long import Long, is_long
from simfer.stages.simulate.finished.parquet import Parquet
from simfer.stages.simulate.finished.text import Text
from simfer.stages.simulate.finished.together import Joined, Stacked

_NOT_YET = (".gz", ".bz2", ".xz", ".zst", ".zip", ".xlsx", ".xls", ".mat", ".pkl", ".pickle", ".rds")


def open_files(table: RunTable, space: Space) -> RunFile:
    """Open every file of a table: those with the same columns are stacked, the others joined."""
    mapped = {name: table.columns.get(name, name) for name in (*space.names, *space.fixed)}
    parameters = [each for each in mapped.values() if isinstance(each, str)]
    run = str(table.columns.get(RUN, RUN))
    alike: dict[frozenset[str], list[RunFile]] = {}
    along = [given for given in table.coordinates.values() if isinstance(given, str)]
    for path in map(Path, table.files):
        file = _opened(path, parameters)
        if is_long(file, run):
            file = Long(file, run, along)
        alike.setdefault(frozenset(file.columns), []).append(file)
    groups = [files[0] if len(files) == 1 else Stacked(files) for files in alike.values()]
    _refuse_ragged(groups, parameters)
    groups.sort(key=lambda file: -len(file.columns.keys() & set(parameters)))  # that of the parameters first
    first, *others = groups
    return Joined([first, *(_by_run(each, first.num, run, along) for each in others)], run) if others else first


def _by_run(file: RunFile, num: int, run: str, along: Sequence[str]) -> RunFile:
    """Return files that hold other lines than there are runs as runs, where each file is that of one."""
    if not isinstance(file, Stacked) or file.num == num or run in file.columns:
        return file
    named = file.of_a_run_each(run)
    return Long(named, run, along) if named else file


def _opened(path: Path, parameters: Sequence[str]) -> RunFile:
    suffix = path.suffix.lower()
    if path.is_dir() and suffix != ".zarr":
        refuse(f'{path.name} is a folder; name the files in it: "{path.name}/*.csv", say')
    if suffix in _NOT_YET:
        refuse(f"{path.name}: {suffix} is not read; unpack it, or save it as CSV, Parquet, NPZ, NetCDF or HDF5")
    kinds: dict[str, Callable[[], RunFile]] = {".parquet": lambda: Parquet(path), ".pq": lambda: Parquet(path)}
    kinds |= dict.fromkeys(OPENERS, lambda: Arrays(path, parameters))
    try:
        return kinds.get(suffix, lambda: Text(path))()
    except SimferError:
        raise
    except (OSError, ValueError, KeyError, UnicodeError, zipfile.BadZipFile) as error:
        refuse(f"{path.name}: cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}")


def _refuse_ragged(groups: Sequence[RunFile], parameters: Sequence[str]) -> None:
    """Refuse files that both have a parameter, and so are to be stacked, but not the same columns."""
    for i, one in enumerate(groups):
        for other in groups[i + 1 :]:
            if not one.columns.keys() & other.columns.keys() & set(parameters):
                continue
            for a, b in ((one, other), (other, one)):
                if lacking := sorted(a.columns.keys() - b.columns.keys()):
                    refuse(f"{b.path.name} lacks the column {lacking[0]}, which {a.path.name} has; expected the same")
