"""How an external program is run: its command, its input files, and what is read of its output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from simfer.stages.settings.fields import AddedLater, ExistingFile, InputFile, NotInKey, Settings


class ProgramOutput(Settings):
    """Where one output of a program is read."""

    file: str
    """A file that the program writes into its folder; "stdout" is what it prints."""
    format: Literal["csv", "json", "npy", "npz", "netcdf", "hdf5", "regex", "pest", "dakota"] | None = None
    """How the file is read; by its ending, or by what else is said here, if left out."""
    column: str | int | None = None
    """The column, variable, array, label or (in JSON, by dots) key in the file; the output's own name if left out."""
    pattern: str | None = None
    """A regular expression with one group, the number; where it is found several times, an array."""
    instructions: ExistingFile | None = None
    """A PEST instruction file (`pif`), which says where the file's numbers are; `column` is the observation's name."""
    coords: dict[str, str] = {}
    """Name of each axis -> where its coordinates are read, "FILE:COLUMN"; they are those of the first run."""
    unit: str = ""
    """The output's unit."""


class Program(Settings):
    """An external program: each row is a run of it in a folder of its own."""

    command: Annotated[list[str], Field(min_length=1)]
    """The program and its arguments, in which `{{ name }}` stands for a parameter; no shell reads it."""
    executable: Annotated[str | None, InputFile()] = None
    """The program's file, so that another program gives other results; found by itself where the command has a path."""
    files: list[ExistingFile] = []
    """Files beside the config that a run needs as they are: linked into each run's folder."""
    templates: dict[str, ExistingFile] = {}
    """Input file of a run -> its template: with `{{ name }}`, `{{ name:12.5e }}`, `{{ seed }}`, or PEST's (`ptf`)."""
    outputs: Annotated[dict[str, ProgramOutput], Field(min_length=1)]
    """What is read of a run, by the output's name."""
    protocol: Annotated[Literal["dakota"] | None, AddedLater()] = None
    """"dakota": the program is called with `params.in` and `results.out`, as an analysis driver of Dakota."""
    ok_exit_codes: list[int] = [0]
    """Exit codes of a run that worked."""
    fail_if: str | None = None
    """A regular expression: a run in whose printed output it is found has failed."""
    keep: Annotated[str | None, NotInKey()] = None
    """A folder in which each run's files are kept: where only the reading of `outputs` changes, nothing runs again."""

    @model_validator(mode="before")
    @classmethod
    def _a_program_beside_the_config(cls, given: Any, info: ValidationInfo) -> Any:
        """Find the program's own file where the command names it by a path."""
        command = given.get("command") if isinstance(given, dict) else None
        if not isinstance(command, list) or not command or "/" not in str(command[0]) or given.get("executable"):
            return given
        file = Path((info.context or {}).get("folder", Path.cwd()), str(command[0])).resolve()
        if not file.is_file():
            raise ValueError(f"command: got {command[0]}, and there is no file {file}; is it built? `make` may do it")
        return given | {"executable": str(file)}

    @field_validator("fail_if")
    @classmethod
    def _a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"got {pattern}, which is not a regular expression: {error}") from None
        return pattern

    @field_validator("keep")
    @classmethod
    def _below_the_config(cls, keep: str | None, info: ValidationInfo) -> str | None:
        folder = (info.context or {}).get("folder", Path.cwd())
        return None if keep is None else str((Path(folder) / keep).resolve())

    @field_validator("outputs")
    @classmethod
    def _inside_the_folder(cls, outputs: dict[str, ProgramOutput]) -> dict[str, ProgramOutput]:
        for name, each in outputs.items():
            for file in (each.file, *(at.rpartition(":")[0] for at in each.coords.values())):
                if Path(file).is_absolute() or ".." in Path(file).parts:
                    raise ValueError(f"{name}: got {file}, expected a file in the run's own folder")
        return outputs
