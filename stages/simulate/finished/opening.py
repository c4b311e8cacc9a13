"""The files of a table, opened and put together as one."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from simfer.stages.errors import ConfigError, SimferError
from simfer.stages.model.space import Space
from simfer.stages.settings import RunTable
from simfer.stages.simulate.finished.arrays import OPENERS, Arrays
from simfer.stages.simulate.finished.columns import RUN
from simfer.stages.simulate.finished.file import RunFile, refuse
from simfer.stages.simulate.finished.long import Long, is_long
from simfer.stages.simulate.finished.parquet import Parquet
from simfer.stages.simulate.finished.text import Text
from simfer.stages.simulate.finished.together import Joined, Stacked, ids_of

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
    return Joined([first, *(_by_run(each, first, run, along) for each in others)], run) if others else first


def _by_run(file: RunFile, first: RunFile, run: str, along: Sequence[str]) -> RunFile:
    """Return files of several lines as runs, where each file is that of one: the run that its name says."""
    if not isinstance(file, Stacked) or run in file.columns or (named := file.of_a_run_each(run)) is None:
        return file
    if run not in first.columns:
        if file.num == first.num:
            return file
        if named.runs not in ([str(i + start) for i in range(len(named.runs))] for start in (0, 1)):
            what = f"got a file for each of the runs {', '.join(named.runs[:4])}{', ...' * (len(named.runs) > 4)}"
            refuse(f"{what}, and {first.path.name} does not say which they are; give it a column `{run}` of them")
    elif file.num == first.num and not set(named.runs) <= set(ids_of(first, run)):
        return file
    try:
        return Long(named, run, along)
    except ConfigError:
        if file.num != first.num or file.columns.keys() & set(along):
            raise
        return file  # no column is the same in all files, as time would be: each is a part of the runs


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
