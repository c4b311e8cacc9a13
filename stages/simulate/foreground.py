"""Beside the chain: one row of the first round again, in this process, to be watched and debugged."""

from __future__ import annotations

import faulthandler
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from simfer.stages.artifacts.simulations import begun_layout
from simfer.stages.errors import Mistake, StageError, UsageError, UserCodeError
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import Simulate, SimulateConfig
from simfer.stages.settings.cost import DEAR
from simfer.stages.simulate import design
from simfer.stages.simulate.backends import build_backend
from simfer.stages.simulate.backends.row_by_row import RowByRow, name_of
from simfer.stages.simulate.children.experiments import simulation_of
from simfer.stages.simulate.children.failed import Failed, Unreachable
from simfer.stages.simulate.children.returned import BadOutput, Expected, Returned
from simfer.stages.simulate.children.servers import Server
from simfer.stages.simulate.children.supervisor import Wanted
from simfer.stages.simulate.children.templates import TemplateError
from simfer.stages.simulate.children.watched import Watched
from simfer.stages.summary import Summary

KINDS: dict[str, Any] = {"http": Server, "program": Watched, "python": simulation_of}
_WITHOUT = "without the limit of {:g} s that simulate.timeout sets (Ctrl-C ends it)"
_OURS = str(Path(__file__).parent)


def run(config: SimulateConfig, progress: Progress, *, row: int, begun: Sequence[Path] = ()) -> Summary:
    """Run a row, whose number is that of failures.csv; raise StageError or UserCodeError where it fails.

    Its outputs are held against those of rows that are `begun` in some folder, which is only read.
    """
    settings = config.simulate.model_copy(update={"table": None, "engine": None})  # it counts its own rows, here
    _refuse(settings, row)
    space = Space(config.parameters)
    z = design.rows(settings.design, row, row + 1, settings.num_simulations, space.size, settings.seed)[0]
    backend = build_backend(settings, space)
    assert isinstance(backend, RowByRow)
    with closing(backend):
        wanted, spec = backend.one("simulate-0", row, z), backend.spec()
    layout, at = begun_layout(begun), _words(wanted)
    limit = "without a time limit" if settings.timeout is None else _WITHOUT.format(settings.timeout)
    progress.note(f"row {row}, here and {limit}: {at}")
    with _as_before():
        simulation = KINDS[settings.kind](spec | {"keep": None})
        folder = Path(mkdtemp(prefix=f"simfer-row-{row}-"), "run") if simulation.leaves_folders else None
        simulation.expected = Expected(layout.to_json()) if layout else None
        begun_at = time.perf_counter()
        found = _run(simulation, wanted, folder)
        seconds = time.perf_counter() - begun_at
    facts = {"row": row, "status": "ok", "seconds": seconds} | ({"folder": str(folder)} if folder else {})
    parameters = [{"parameter": name, "value": value} for name, value in wanted.parameters.items()]
    new = [] if layout else ["no rows are stored that its outputs could be held against"]
    new += _advice_on_runs(settings, seconds)
    return {"facts": facts, "tables": {"parameters": parameters, "outputs": _table(found)}, "warnings": new}


def _advice_on_runs(settings: Simulate, seconds: float) -> list[str]:
    if seconds < DEAR or settings.cost is not None:
        return []
    return [
        f'a run that takes {seconds:.0f} s is dear: simulate.cost = "{seconds:.0f} s" chooses as few as it takes, '
        "where simulate.num_simulations, check.num_draws and [refine] are left out"
    ]


def _refuse(settings: Simulate, row: int) -> None:
    if settings.kind not in KINDS:
        whose = {"ask": "somebody else makes its rows", "table": "there is a table of finished runs alone"}
        what = whose.get(settings.kind, "its rows are solved many in one compiled call of JAX")
        raise UsageError([Mistake("--row", f"expected a program, a plain Python function or a server; here {what}")])
    if not 0 <= row < settings.num_simulations:
        most = settings.num_simulations - 1
        raise UsageError([Mistake("--row", f"got {row}, expected a row of the first round, 0 to {most}")])


def _run(simulation: Any, wanted: Wanted, folder: Path | None) -> Returned:
    where = f"row {wanted.number} ({_words(wanted)})"
    kept = f"\nIts folder is {folder}" if folder else ""
    try:
        found: Returned = simulation.run(wanted.number, wanted.parameters, wanted.seed, str(folder or ""))
        numbers = (simulation.expected or Expected(found.describe())).flat(found)
    except BadOutput as error:
        raise StageError(f"{where}: {name_of(Status.BAD_OUTPUT)}: {error}{kept}") from error
    except Failed as error:
        raise StageError(f"{where}: {name_of(error.status)}: {error}{kept}") from error
    except (Unreachable, TemplateError) as error:
        raise StageError(f"{where}: {error}{kept}") from error
    except (Exception, SystemExit) as error:
        raise UserCodeError(f"{where} raised {type(error).__name__}\n{_traceback(error)}{kept}") from error
    if not np.isfinite(numbers).all():
        raise StageError(f"{where}: {name_of(Status.NOT_FINITE)}: {_not_finite(found)}{kept}")
    return found


def _traceback(error: BaseException) -> str:
    """Return a traceback whole, from where it leaves our own code."""
    frames = error.__traceback__
    while frames and frames.tb_next and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    return "".join(traceback.format_exception(error.with_traceback(frames))).rstrip()


def _not_finite(found: Returned) -> str:
    counts = {name: int((~np.isfinite(each.values)).sum()) for name, each in found.outputs.items()}
    return ", ".join(f"{count} of {found.outputs[name].values.size} values of {name} are NaN or infinite"
                     for name, count in counts.items() if count)  # fmt: skip


def _words(wanted: Wanted) -> str:
    values: Mapping[str, Any] = wanted.parameters | ({} if wanted.seed is None else {"seed": wanted.seed})
    return ", ".join(f"{name} = {value!r}" for name, value in values.items())


def _table(found: Returned) -> list[dict[str, Any]]:
    return [
        {
            "output": name,
            "along": ", ".join(f"{dim} ({num})" for dim, num in zip(each.dims, each.values.shape, strict=True)),
            "from": float(each.values.min()),
            "to": float(each.values.max()),
            "unit": each.unit,
        }
        for name, each in found.outputs.items()
    ]


@contextmanager
def _as_before() -> Iterator[None]:
    """Leave the process as it was: a user's function is run in the folder of its file."""
    folder, path, is_new = Path.cwd(), list(sys.path), not faulthandler.is_enabled()
    if is_new and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # a segmentation fault says where it was
    try:
        yield
    finally:
        os.chdir(folder)
        sys.path[:] = path
        if is_new:
            faulthandler.disable()
