"""The ledger of one step: which points were asked for, which were given out, and what was told of them.

It lies outside the artifacts, where nothing is swept: what a lab has measured is not to be had again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from simfer.stages.errors import WaitingForRuns
from simfer.stages.model.outputs import Layout, Status

_POINTS, _TOLD, _GIVEN, _LAYOUT = "points.npz", "told.jsonl", "given.json", "layout.json"
TOKEN = 8  # characters of the folder's name that a run's own name begins with


@dataclass(frozen=True)
class Told:
    """What was told of one run; of a point that nobody asked for also where it lies, `row` being -1."""

    row: int
    status: int
    outputs: dict[str, Any]  # nested lists
    theta: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the run as a line of the ledger has it."""
        theta = {"theta": list(self.theta)} if self.row < 0 else {}
        return {"row": self.row, "status": self.status, "outputs": self.outputs} | theta


class Ledger:
    """A folder with what was asked and what was told, of one step of the chain."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.token = folder, folder.name[:TOKEN]

    def name(self, row: int) -> str:
        """Return what a run is called in files: by its step, and its number there."""
        return f"{self.token}-{row}"

    def ask(self, z: Float[np.ndarray, "rows size"], theta: Float[np.ndarray, "rows names"]) -> None:
        """Note down the points of the step, if that has not been done."""
        if not (self.folder / _POINTS).exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".{_POINTS}"
            with temporary.open("wb") as file:
                np.savez(file, z=z, theta=theta)
            _put(temporary, self.folder / _POINTS)

    @property
    def z(self) -> Float[np.ndarray, "rows size"]:
        """The whitened points that are asked for."""
        return self._points("z")

    @property
    def theta(self) -> Float[np.ndarray, "rows names"]:
        """Their free parameters."""
        return self._points("theta")

    def _points(self, which: str) -> np.ndarray:
        if not (self.folder / _POINTS).exists():
            return np.zeros((0, 0))
        with np.load(self.folder / _POINTS, allow_pickle=False) as file:
            return np.asarray(file[which])

    @property
    def layout(self) -> Layout | None:
        """What the runs give, as the first file that was told had it; None before that."""
        file = self.folder / _LAYOUT
        return Layout.from_json(json.loads(file.read_text())) if file.exists() else None

    def told(self) -> tuple[dict[int, Told], list[Told]]:
        """Return what was told of the points asked for, by their numbers, and of others."""
        asked, others = {}, []
        file = self.folder / _TOLD
        for line in file.read_text().splitlines() if file.exists() else ():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:  # cut off where a process was killed; its file can be told again
                continue
            each = Told(record["row"], record["status"], record["outputs"], tuple(record.get("theta", ())))
            if each.row < 0:
                others.append(each)
            else:
                asked[each.row] = each
        return asked, others

    def tell(self, runs: Iterable[Told], layout: Layout) -> None:
        """Take runs in: they are on disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / _LAYOUT).exists():
            self._write(_LAYOUT, layout.to_json())
        file = self.folder / _TOLD
        whole = not file.exists() or not (text := file.read_bytes()) or text.endswith(b"\n")
        with file.open("a") as stream:
            stream.write("" if whole else "\n")
            stream.writelines(json.dumps(each.to_json()) + "\n" for each in runs)
            stream.flush()
            os.fsync(stream.fileno())

    def open_rows(self, again: bool = False) -> list[int]:
        """List the rows that nobody was given yet; `again` those that were given and not told, too."""
        asked, _ = self.told()
        given = set() if again else set(self._given())
        return [row for row in range(len(self.z)) if row not in asked and row not in given]

    def give(self, rows: Sequence[int]) -> None:
        """Note down that rows were given out."""
        self._write(_GIVEN, sorted({*self._given(), *rows}))

    def _given(self) -> list[int]:
        file = self.folder / _GIVEN
        return list(json.loads(file.read_text())) if file.exists() else []

    def _write(self, name: str, value: Any) -> None:
        temporary = self.folder / f".{name}"
        temporary.write_text(json.dumps(value))
        _put(temporary, self.folder / name)

    def refuse_untold(self) -> None:
        """Say what is waited for, as long as something is."""
        asked, _ = self.told()
        total, told = len(self.z), len(asked)
        if told < total:
            failed = sum(each.status != Status.OK for each in asked.values())
            out = len(set(self._given()) - set(asked))
            raise WaitingForRuns(
                f"waits for {total - told} of {total} runs ({told} told, {failed} of them failed; {out} given out and "
                "not told). `simfer ask CONFIG --output next.csv` writes those that nobody was given, `simfer tell "
                "CONFIG done.csv` takes results in",
                self.folder,
            )


def _put(temporary: Path, final: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(final)
