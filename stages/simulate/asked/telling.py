"""Results that come back: a file whose runs are matched by their names, in any order, some missing, some failed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from simfer.stages.errors import Mistake, UsageError
from simfer.stages.model.outputs import Layout, Status
from simfer.stages.model.space import Space
from simfer.stages.settings import RunTable
from simfer.stages.simulate.asked.ledger import TOKEN, Ledger, Told
from simfer.stages.simulate.finished.columns import Columns
from simfer.stages.simulate.finished.file import RunFile
from simfer.stages.simulate.finished.opening import open_files
from simfer.stages.simulate.finished.statuses import statuses

_NAME = re.compile(rf"([0-9a-f]{{{TOKEN}}})-(\d+)")
_SAME = 1e-6  # relative: what a file has of a point that was asked for may be rounded so far


class Telling(NamedTuple):
    """What a file holds, looked through and not yet taken in."""

    layout: Layout
    runs: Mapping[Path, Sequence[Told]]  # by the folder of their ledger
    facts: dict[str, int]

    def take(self) -> dict[str, int]:
        """Write the runs into their ledgers."""
        for folder, runs in self.runs.items():
            Ledger(folder).tell(runs, self.layout)
        return self.facts


class _Results(NamedTuple):
    names: Sequence[str]
    theta: np.ndarray | None
    outputs: dict[str, np.ndarray]
    status: np.ndarray
    said: np.ndarray  # whether the file says how the run ended


def read(
    file: Path,
    table: RunTable | None,
    space: Space,
    ledgers: Mapping[str, Ledger],
    foreign: Ledger | None,
    replace: bool,
) -> Telling:
    """Find the ledger of each run of a file; all of them can be taken in, or none where something is wrong.

    Args:
        file: What came back, in any format that finished runs are read from.
        table: What columns are called, if not by their names.
        space: The parameters.
        ledgers: By token, those of the config's steps that asked for something and are not built yet.
        foreign: The ledger that points which nobody asked for are taken into; None where no round is left.
        replace: Whether what was told before may be told otherwise.
    """
    settings = (table or RunTable.model_construct(files=[])).model_copy(update={"files": [str(file)]})
    opened = open_files(settings, space)
    columns = Columns.of(opened, settings, space, needs_parameters=False)
    layout = Layout({name: each.output for name, each in columns.outputs.items()})
    results = _read(opened, columns, layout)
    taking: dict[Path, list[Told]] = {}
    count = dict.fromkeys(("taken", "failed", "told_before", "points_of_your_own", "not_done_yet"), 0)
    known_before = {ledger.folder: ledger.told() for ledger in (*ledgers.values(), *([foreign] if foreign else []))}
    for i, name in enumerate(results.names):
        if not results.said[i] and all(np.isnan(y[i]).all() for y in results.outputs.values()):
            count["not_done_yet"] += 1
            continue
        ledger, run = _run(opened, i, name, results, ledgers, foreign)
        known = _known(*known_before[ledger.folder], run)
        if known is not None and _same(known, run):
            count["told_before"] += 1
            continue
        if known is not None and not replace:
            _refuse(opened, i, f"run {name} was told before, and otherwise; `--replace` takes what this file says")
        taking.setdefault(ledger.folder, []).append(run)
        count["taken"] += 1
        count["failed"] += run.status != Status.OK
        count["points_of_your_own"] += run.row < 0
    for folder in taking:
        _agree(opened, Ledger(folder).layout, layout)
    return Telling(layout, taking, count)


def _read(file: RunFile, columns: Columns, layout: Layout) -> _Results:
    texts = [name for name in (columns.run, columns.status) if name]
    names = [*columns.parameters.values(), *(c for each in columns.outputs.values() for c in each.columns)]
    read = file.read(0, file.num, names, texts)
    outputs = {name: each.values(read) for name, each in columns.outputs.items()}
    finite = np.all([np.isfinite(y).reshape(file.num, -1).all(axis=1) for y in outputs.values()], axis=0)
    written = read[columns.status] if columns.status else np.full(file.num, "", object)
    status = statuses(written)
    status = np.where((status == Status.OK) & ~finite, int(Status.NOT_FINITE), status)
    said = np.array([bool(str(text).strip()) for text in written])
    theta = np.stack([read[c] for c in columns.parameters.values()], axis=1) if columns.parameters else None
    runs = [str(name).strip() for name in read[columns.run]] if columns.run else [""] * file.num
    return _Results(runs, theta, outputs, status, said)


def _run(
    file: RunFile, i: int, name: str, results: _Results, ledgers: Mapping[str, Ledger], foreign: Ledger | None
) -> tuple[Ledger, Told]:
    outputs = {key: np.where(np.isfinite(y[i]), y[i], np.nan).tolist() for key, y in results.outputs.items()}
    status, theta = int(results.status[i]), None if results.theta is None else results.theta[i]
    if found := _NAME.fullmatch(name):
        ledger, row = ledgers.get(found[1]), int(found[2])
        if ledger is None or row >= len(ledger.z):
            what = (
                f"run {name} was asked for by another config, by this one before it was changed, or for a step that is "
            )
            _refuse(file, i, f"{what}finished; without its name it is taken as a point of your own")
        asked = ledger.theta[row]
        if theta is not None and not np.allclose(theta, asked, rtol=_SAME, atol=0.0, equal_nan=True):
            what = f"run {name} was asked for at {_numbers(asked)}, and is there at {_numbers(theta)}"
            _refuse(file, i, f"{what}; without its name it is taken as a point of your own")
        return ledger, Told(row, status, outputs)
    if theta is None or not np.isfinite(theta).all():
        what = f"run {name or '(no name)'} was not asked for, and a point of your own needs all parameters"
        _refuse(file, i, what)
    if foreign is None:
        _refuse(file, i, "no round of simulations waits now, and none can take a point of your own")
    return foreign, Told(-1, status, outputs, tuple(theta.tolist()))


def _known(asked: Mapping[int, Told], others: Sequence[Told], run: Told) -> Told | None:
    return asked.get(run.row) if run.row >= 0 else next((each for each in others if each.theta == run.theta), None)


def _same(one: Told, other: Told) -> bool:
    if one.status != other.status or one.outputs.keys() != other.outputs.keys():
        return False
    return all(np.array_equal(one.outputs[name], y, equal_nan=True) for name, y in other.outputs.items())


def _agree(file: RunFile, before: Layout | None, layout: Layout) -> None:
    if before is not None and before.to_json() != layout.to_json():
        _refuse(file, None, f"got the outputs {_words(layout)}; told before were {_words(before)}: expected the same")


def _words(layout: Layout) -> str:
    sizes = {name: " x ".join(map(str, o.shape)) for name, o in layout.outputs.items()}
    return ", ".join(f"{name} ({size} values)" if size else name for name, size in sizes.items())


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _refuse(file: RunFile, row: int | None, what: str) -> NoReturn:
    where = file.path.name if row is None else file.place(row)
    raise UsageError([Mistake(where, f"{what}. Nothing of this file was taken in.")])
