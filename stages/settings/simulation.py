"""How simulations are run, and refined around a posterior."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from simfer.stages.settings.engines import Engine
from simfer.stages.settings.fields import (
    AddedLater,
    Code,
    Count,
    Duration,
    ExistingFile,
    Fraction,
    Natural,
    NotInKey,
    Positive,
    ReadLater,
    Seed,
    Settings,
    Unit,
)
from simfer.stages.settings.names import ASK, SIMULATORS
from simfer.stages.settings.own_code import is_plain
from simfer.stages.settings.program import Program
from simfer.stages.settings.run_table import RunTable, or_names_alone
from simfer.stages.settings.server import Server

LEAST_ROWS = 20  # usable ones, that a training set is made of
_ADDRESS = r"^https?://[^/]+/.+$"  # of a model


class Solver(Settings):
    """How an ODE is solved: a Diffrax solver by its own name, its tolerances, and when to give up."""

    solver: str = "Tsit5"
    """One of Diffrax's by its own name, or "Rodas5P" for stiff equations."""
    rtol: Positive = 1e-6
    """Relative tolerance of a step."""
    atol: Annotated[Positive, Unit("of the state")] = 1e-6
    """Absolute tolerance of a step; the default shrinks with a state that is below 1e-3 where it starts."""
    max_steps: Annotated[Count, Unit("steps")] = 16384
    """Steps after which a row is given up, as failed."""
    dt0: Annotated[Positive | None, Unit("of time")] = None
    """First step, or the step where `fixed_step`; the solver chooses it if left out."""
    fixed_step: bool = False
    """Whether every step is `dt0` long, and no tolerance is looked at."""
    max_step: Annotated[Positive | None, Unit("of time"), AddedLater()] = None
    """Longest step, so that none leaps over a short pulse; as the tolerances allow if left out."""

    @model_validator(mode="after")
    def _a_fixed_step_has_a_length(self) -> Solver:
        if self.fixed_step and self.dt0 is None:
            raise ValueError("fixed_step = true needs dt0, the length of the step")
        if self.fixed_step and self.max_step is not None:
            raise ValueError("got max_step beside fixed_step = true, where every step is dt0; leave max_step out")
        return self


class Simulate(Settings):
    """Where to simulate, with what, and how many times."""

    table: Annotated[RunTable | None, AddedLater(), Field(json_schema_extra=or_names_alone)] = None
    """Runs that are finished: a file, a list of files, or a table that says what their columns are."""
    program: Annotated[Program | None, AddedLater()] = None
    """An external program in the place of a simulator."""
    simulator: Annotated[str, Code(lambda: [*SIMULATORS, ASK], _ADDRESS)] = ""
    """A name (`simfer list simulators`), or your own class or function; none beside a program or a table alone.

    "ask" where somebody else makes the runs: `simfer ask` writes their points, `simfer tell` takes the results in.
    "http://HOST:PORT/MODEL" is a model behind UM-Bridge.
    """
    num_simulations: Annotated[Natural, Unit("simulations")] = 0
    """How many times the simulator is run in the first round; growing it keeps the rows that are there."""
    cost: Annotated[Duration | None, NotInKey()] = None
    """What one run takes: seconds, or a number with its unit ("1 h"). From a second on, num_simulations,
    check.num_draws and [refine] are chosen for as few runs as it takes, where the config leaves them out."""
    design: Literal["sobol", "prior", "latin_hypercube"] = "sobol"
    """How the prior is covered: by Sobol's sequence, by independent draws, or by a Latin hypercube."""
    seed: Seed = 0
    """Seed of the random numbers; another seed, other draws."""
    max_failed: Annotated[Fraction, ReadLater(), Unit("share")] = 0.1
    """Share of failed simulations that is too many: an error in the first round, a figure of the verdict later."""
    failures: Annotated[Literal["excluded", "impossible"], NotInKey()] = "excluded"  # what it changes reads the rows
    """What a failure says of its parameters: nothing ("excluded"), or that they have probability zero ("impossible").

    "excluded" stops beyond max_failed, and a posterior that reaches where simulations fail does not pass. "impossible"
    ends the posterior at the border of what can be solved, which is learned from solved and failed rows.
    """
    options: dict[str, Any] = {}
    """Arguments of the simulator's own constructor, such as its save times."""
    solver: Solver = Solver.model_construct()
    """How an ODE is solved."""
    retry: Annotated[Solver | None, AddedLater()] = None
    """How rows that fail are solved once more, by the keys of [simulate.solver]; what is left out is as there."""
    experiments: Annotated[dict[str, dict[str, Any]], AddedLater()] = {}
    """The options of each experiment, on top of `options`; [experiments] sees to it."""
    each: Annotated[list[str], AddedLater()] = []
    """The parameters that each experiment has of its own; [experiments] sees to it."""
    vectors: Annotated[dict[str, list[Any]], AddedLater()] = {}
    """The formulas of parameters that are arrays, number by number; [parameters] sees to it."""
    derivatives: Annotated[bool, AddedLater()] = False
    """Whether rows carry the outputs' derivatives by the free parameters too."""
    depends_on: list[ExistingFile] = []
    """Files that your own code depends on beyond what its imports show: when one changes, so does the result."""
    batch_size: Annotated[Count | None, NotInKey(), Unit("rows")] = None
    """How many rows are solved side by side; chosen if left out, and no number depends on it."""

    server: Annotated[Server | None, AddedLater()] = None
    """Names for the vectors of a model behind UM-Bridge, where `simulator` is the address of one."""
    dims: Annotated[dict[str, list[str]], AddedLater()] = {}
    """Names of the axes of outputs that a Python function returns as arrays without them."""
    workers: Annotated[Count | None, NotInKey(), Unit("rows at a time")] = None
    """How many rows of a simulator that is not JAX run at a time, each in its own process; the cores if left out."""
    engine: Annotated[Engine | None, NotInKey()] = None
    """Who runs the rows of a simulator, if not this machine: "dask:ADDRESS", "spool:FOLDER", "file.py:make"."""
    rows_per_worker: Annotated[Count | None, NotInKey(), Unit("rows")] = None
    """After how many rows such a process is begun anew, for libraries that leak memory; never if left out."""
    timeout: Annotated[Duration | None, NotInKey(), Unit("s")] = None
    """How long a row of such a simulator may take, in seconds or as "2 h", "30 min"; for ever if left out."""

    @property
    def kind(self) -> str:
        """Where rows come from: a name of the table of backends."""
        if self.program is not None:
            return "program"
        if self.simulator == ASK:
            return "ask"
        if not self.simulator:
            return "table"
        if self.simulator.startswith(("http://", "https://")):
            return "http"
        return "python" if Code.is_own(self.simulator) and is_plain(self.simulator) else "jax"

    @field_validator("simulator")
    @classmethod
    def _runs_come_from_somewhere(cls, simulator: str, info: ValidationInfo) -> str:
        table, program = info.data.get("table", ...), info.data.get("program", ...)
        if not simulator and table is None and program is None:
            others = "[simulate.program], or the runs that you have as simulate.table"
            raise ValueError(f"missing; name a simulator, or give a program as {others}")
        if simulator and isinstance(program, Program):
            raise ValueError("got a simulator and a [simulate.program]; expected one of them, which give the same rows")
        return simulator

    @field_validator("num_simulations")
    @classmethod
    def _somebody_makes_them(cls, num: int, info: ValidationInfo) -> int:
        table, simulator = info.data.get("table", ...), info.data.get("simulator", ...)
        if not num and table is None:
            raise ValueError("got no simulations, expected a whole number > 0")
        if num and simulator == "" and info.data.get("program", ...) is None:
            raise ValueError(f"got {num}, and beside the table no simulator that could make them; remove it")
        return num

    @field_validator("server")
    @classmethod
    def _an_address_has_names(cls, server: Server | None, info: ValidationInfo) -> Server | None:
        is_address = str(info.data.get("simulator", "")).startswith(("http://", "https://"))
        if is_address and server is None:
            raise ValueError("missing; name what the model's vectors hold: inputs and outputs, in [simulate.server]")
        if server is not None and not is_address and "simulator" in info.data:
            raise ValueError('got names for the vectors of a server, where simulator is no "http://HOST:PORT/MODEL"')
        return server

    @property
    def label(self) -> str:
        """What the simulator is called, in tables and on a card."""
        return self.program.command[0] if self.program is not None else self.simulator

    @field_validator("retry", mode="before")
    @classmethod
    def _what_is_left_out_stays(cls, given: Any, info: ValidationInfo) -> Any:
        """Let the keys that [simulate.retry] leaves out be those of [simulate.solver]."""
        solver = info.data.get("solver")
        if not solver or not isinstance(given, dict):
            return given
        kept = solver.model_dump(exclude={"max_step"} if given.get("fixed_step") else None)
        return kept | given

    @field_validator("retry")
    @classmethod
    def _a_retry_is_another_way(cls, retry: Solver | None, info: ValidationInfo) -> Solver | None:
        if retry is not None and retry == info.data.get("solver"):
            raise ValueError(
                "got the settings of simulate.solver, with which a row fails again; give more max_steps, or another "
                'solver (a stiff one: "Rodas5P")'
            )
        return retry


class Refine(Settings):
    """Further rounds: simulate where the last round's posterior is, and train again."""

    max_rounds: Annotated[int, Field(ge=0), NotInKey(), Unit("rounds")] = 0
    """Rounds after the first, which end when the check passes; no round's result depends on it."""
    simulations_per_round: Annotated[Count, Unit("simulations")] = 200
    """Simulations of each later round."""
    stretch: Annotated[Positive, Unit("times")] = 1.5
    """How much wider than the last posterior the next simulations lie, about its median."""
    keep: Annotated[Count | None, Unit("rows")] = None
    """Train later rounds on the rows closest to the data, this many at least, and on all that later rounds simulated.
    If left out, on all rows in the first refined round; where that round did not pass, further ones leave out rows of
    the first round that are far from the data.
    """
