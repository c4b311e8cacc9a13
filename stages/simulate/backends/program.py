"""An external program: a run for each row, in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

from simfer.stages.errors import Mistake
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import Simulate
from simfer.stages.simulate.backends.row_by_row import RowByRow


class Program(RowByRow):
    """Rows of a program."""

    who: ClassVar[str] = "the program"
    where: ClassVar[str] = "simulate.program"
    how_to_seed: ClassVar[str] = "`{{ seed }}` in a template or in the command"

    def __init__(self, settings: Simulate, space: Space) -> None:
        super().__init__(settings, space)
        assert settings.program is not None
        self._program = settings.program

    def spec(self) -> dict[str, Any]:
        """Say how the program is run and read."""
        read = self._program.model_dump(exclude={"outputs"})
        outputs = {name: each.model_dump() for name, each in self._program.outputs.items()}
        inputs = [self._program.executable, *self._program.files, *self._program.templates.values()]
        edited = {file: Path(file).stat().st_mtime_ns for file in inputs if file}
        # What a kept run is known by, beside its own input: not how it is read.
        key = {"command": self._program.command, "files": edited, "fail_if": read["fail_if"],
               "codes": read["ok_exit_codes"]}  # fmt: skip
        return read | {"kind": "program", "outputs": outputs, "key": key, "edited": edited}

    def files(self) -> list[Path]:
        """List the program's own file, its templates, and what else a run needs."""
        read = [each.instructions for each in self._program.outputs.values()]
        named = [self._program.executable, *self._program.files, *self._program.templates.values(), *read]
        return [*(Path(file) for file in named if file), *super().files()]

    def mistakes(self, progress: Progress) -> list[Mistake]:
        """See whether the program is there, and run it at the prior's median."""
        command = self._program.command[0]
        if self._program.executable is None and self._engine is None and shutil.which(command) is None:
            what = f'got "{command}", which is no command here; write its path, relative to the config: "./{command}"'
            return [Mistake("simulate.program.command", what)]
        if self._program.executable and not shutil.which(self._program.executable):
            what = f"{self._program.executable} may not be executed; `chmod +x` lets it"
            return [Mistake("simulate.program.command", what)]
        return super().mistakes(progress)
