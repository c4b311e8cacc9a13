"""A program, run once for each row in a folder of its own: what the child does."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simfer.stages.model.outputs import Status
from simfer.stages.simulate.children import templates
from simfer.stages.simulate.children.failed import Failed
from simfer.stages.simulate.children.readers import values
from simfer.stages.simulate.children.returned import BadOutput, Expected, Returned, Value
from simfer.stages.simulate.children.templates import TemplateError

OUT, ERR = "stdout", "stderr"
_DONE = ".simfer-run"  # in a kept folder: the run in it worked
_PARAMS, _RESULTS = "params.in", "results.out"


class Program:
    """The program of a config, with its templates and readers."""

    expected: Expected | None = None
    leaves_folders = True

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec, self._is_dakota = spec, spec["protocol"] == "dakota"
        self._templates = {name: Path(file).read_text() for name, file in spec["templates"].items()}
        command = list(spec["command"])
        self._command = [spec["executable"] or command[0], *command[1:]]
        self._kept = Path(spec["keep"]) if spec["keep"] else None
        self._digest = hashlib.sha256(str(spec["key"]).encode())
        self._fails = re.compile(spec["fail_if"]) if spec["fail_if"] else None

    def facts(self) -> dict[str, Any]:
        """Say which parameters the templates and the command take."""
        texts = [*self._templates.values(), *self._command]
        names = dict.fromkeys(name for text in texts for name in templates.names_in(text))
        is_random = names.pop(templates.SEED, "") is None
        return {"parameters": dict.fromkeys(names, ""), "any": self._is_dakota, "optional": [], "outputs": None,
                "stochastic": is_random}  # fmt: skip

    def run(self, row: int, parameters: dict[str, float], seed: int | None, folder: str) -> Returned:
        """Write a run's input, run it, and read its output."""
        filled = {name: templates.fill(text, parameters, seed) for name, text in self._templates.items()}
        command = [templates.fill(each, parameters, seed) for each in self._command]
        if self._is_dakota:
            filled[_PARAMS] = templates.dakota_parameters(parameters, list(self._spec["outputs"]), row)
        self._theta = _as_read([*filled.values(), *command])
        words, place = [each.text for each in command], Path(folder)
        if self._kept is None:
            self._execute(words, filled, place)
        elif not ((place := self._place(words, filled)) / _DONE).exists():
            shutil.rmtree(place, ignore_errors=True)
            self._execute(words, filled, place)
            (place / _DONE).touch()
        return self._read(place)

    def clean(self, folder: str) -> None:
        """Remove the folder of a run that worked."""
        shutil.rmtree(folder, ignore_errors=True)

    def particulars(self) -> dict[str, Any]:
        """Say where the row lies, as the program was told."""
        return {"theta": self._theta}

    def _place(self, command: list[str], filled: Mapping[str, templates.Filled]) -> Path:
        """Return where the run of this input is kept, whatever is read of it."""
        digest = self._digest.copy()
        for part in (*command[1:], *(text for name in sorted(filled) for text in (name, filled[name].text))):
            digest.update(part.encode() + b"\0")
        name = digest.hexdigest()[:32]
        assert self._kept is not None
        return self._kept / name[:2] / name[2:]

    def _execute(self, command: list[str], filled: Mapping[str, templates.Filled], place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for file in self._spec["files"]:
            (place / Path(file).name).symlink_to(file)
        for name, text in filled.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text.text)
        words = [*command, _PARAMS, _RESULTS] if self._is_dakota else command
        self._judge(self._call(words, place), place)

    def _call(self, words: list[str], place: Path) -> int:
        """Call the program in its folder, and return its exit code."""
        with (place / OUT).open("wb") as out, (place / ERR).open("wb") as err:
            process = subprocess.Popen(words, cwd=place, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            return process.wait()

    def _judge(self, code: int, place: Path) -> None:
        if code < 0:
            self._show(place)
            raise Failed(Status.CRASHED, f"ended by {signal.Signals(-code).name} ({signal.strsignal(-code)})")
        if code not in self._spec["ok_exit_codes"]:
            self._show(place)
            allowed = ", ".join(map(str, self._spec["ok_exit_codes"]))
            raise Failed(Status.EXIT, f"exit code {code}, where {allowed} is that of a run that worked")
        if self._fails:
            for name in (OUT, ERR):
                if found := self._fails.search((place / name).read_text(errors="replace")):
                    self._show(place)
                    raise Failed(Status.EXIT, f"it printed {found[0]!r}, which fail_if takes for a failure")

    def _show(self, place: Path) -> None:
        """Copy what the program said last into the log of the row."""
        for name in (OUT, ERR):
            said = (place / name).read_bytes()[-3000:]
            os.write(1, said)

    def _read(self, place: Path) -> Returned:
        try:
            return self._outputs(place)
        except BadOutput:
            self._show(place)
            raise

    def _outputs(self, place: Path) -> Returned:
        started = (place / OUT).stat().st_mtime_ns
        inputs = min((each.lstat().st_mtime_ns for each in place.iterdir()), default=started)
        outputs, coords = dict[str, Value](), dict[str, np.ndarray]()
        for name, wanted in self._spec["outputs"].items():
            column = name if wanted["column"] is None else wanted["column"]
            array = values(_fresh(place / wanted["file"], inputs), wanted, column)
            if array.size == 1 and not wanted["coords"]:
                array = array.reshape(())
            dims = list(wanted["coords"]) or [f"{name}_{i}" for i in range(array.ndim)]
            if len(dims) != array.ndim:
                raise BadOutput(
                    f"output {name}: got an array of shape {array.shape}, and coordinates along {', '.join(dims)}"
                )
            for dim, at in wanted["coords"].items():
                file, _, of = at.rpartition(":")
                source = wanted if file == wanted["file"] else {"file": file}
                coords[dim] = np.atleast_1d(values(_fresh(place / file, inputs), source, of))
            outputs[name] = Value(tuple(dims), array, wanted["unit"])
        return Returned(outputs, coords, {})


def _fresh(file: Path, begun: int) -> Path:
    """Refuse a file that is older than the run: one from another run that was linked or copied into the folder."""
    if file.exists() and file.stat().st_mtime_ns < begun - 2_000_000_000:
        raise BadOutput(f"{file.name}: it is older than the run, so another wrote it; does the program write it anew?")
    return file


def _as_read(filled: list[templates.Filled]) -> dict[str, float]:
    """Return the parameters as the program reads them: what a format cuts off is not simulated."""
    written: dict[str, float] = {}
    for each in filled:
        for name, value in each.written.items():
            if written.setdefault(name, value) != value:
                raise TemplateError(
                    f"{name} is written as {written[name]!r} and as {value!r}: give both the same format"
                )
    return written
