"""What the system refuses ends in words and exit code 3, with the place; it is no bug of Simfer's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner, Result

from simfer.pipeline import chain, runtime
from simfer.pipeline.cli import app
from simfer.stages.artifacts.netcdf import write_netcdf
from tests import fakes


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chain, "run", fakes.run_stage)
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: [])
    monkeypatch.setattr(runtime, "prepare", lambda: None)
    return fakes.write_project(tmp_path)


def simfer(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def raises(error: BaseException) -> Callable[..., NoReturn]:
    def run(*given: Any) -> NoReturn:
        raise error

    return run


class JaxRuntimeError(RuntimeError):
    """As JAX raises it."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/store/a"), "/store/a: the disk is full. Make room"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/store/a"), "your share of the disk is used up"),
        (PermissionError(errno.EACCES, "denied", "/store/a"), "/store/a: you may not write or read here"),
        (OSError(errno.EROFS, "read only", "/store/a"), "it can only be read"),
        (OSError(errno.EIO, "input/output error", "/store/a"), "the disk does not answer as it should"),
        (OSError(errno.EMFILE, "too many", "/store/a"), "ulimit -n"),
        (MemoryError("Unable to allocate 74.5 GiB"), "memory ran out. What helps"),
        (JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"), "memory ran out. What helps"),
    ],
)
def test_in_words(project: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str) -> None:
    monkeypatch.setattr(chain, "run", raises(error))
    result = simfer("run", project, "--json")
    assert result.exit_code == 3 and said in result.stderr and "Traceback" not in result.output
    assert '"kind": "SimferError"' in result.stdout


def test_other_errors_are_ours(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (OSError(errno.ENOENT, "no such file", "/a"), RuntimeError("RESOURCE_EXHAUSTED")):
        monkeypatch.setattr(chain, "run", raises(error))
        assert simfer("run", project).exception is error


@pytest.mark.parametrize(
    ("store", "said"),
    [("obs.csv", "a folder was expected"), ("obs.csv/below", "a folder"), ("n" * 300, "longer than the file system")],
)
def test_a_store_that_cannot_be_one(project: Path, store: str, said: str) -> None:
    (project.parent / "obs.csv").write_text("mine")
    result = simfer("run", project, "--store", project.parent / store)
    assert result.exit_code == 3 and said in result.stderr and "Traceback" not in result.output
    assert (project.parent / "obs.csv").read_text() == "mine"


def test_netcdf_is_whole_or_an_error(tmp_path: Path) -> None:
    data = xr.Dataset({"a": ("x", np.arange(3.0))})
    write_netcdf(data, tmp_path / "a.nc")
    assert xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf").identical(data)
    with pytest.raises(OSError, match="No space left"):
        write_netcdf(data, Path("/dev/full"))
