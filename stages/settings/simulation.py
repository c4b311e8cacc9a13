"""How simulations are run, and refined around a posterior."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from simfer.stages.settings.fields import (
    AddedLater,
    Code,
    Count,
    ExistingFile,
    Fraction,
    NotInKey,
    Positive,
    Seed,
    Settings,
    table_or_code,
)
from simfer.stages.settings.names import SIMULATORS


class Solver(Settings):
    """How an ODE is solved: a Diffrax solver by its own name, its tolerances, and when to give up."""

    solver: str = "Tsit5"
    rtol: Positive = 1e-6
    atol: Positive = 1e-6
    max_steps: Count = 16384
    dt0: Positive | None = None  # first step (or the step, where `fixed_step`); chosen by the solver if left out
    fixed_step: bool = False

    @model_validator(mode="after")
    def _a_fixed_step_has_a_length(self) -> Solver:
        if self.fixed_step and self.dt0 is None:
            raise ValueError("fixed_step = true needs dt0, the length of the step")
        return self


class Simulate(Settings):
    """Where to simulate, with what, and how many times."""

    simulator: Annotated[str, AfterValidator(table_or_code(lambda: SIMULATORS)), Code()]
    num_simulations: Count
    design: Literal["sobol", "prior", "latin_hypercube"] = "sobol"
    seed: Seed = 0
    max_failed: Fraction = 0.1
    options: dict[str, Any] = {}
    solver: Solver = Solver()
    retry: Annotated[Solver | None, AddedLater()] = None  # how rows that fail are solved once more
    derivatives: Annotated[bool, AddedLater()] = False  # of the outputs by the free parameters, in every row
    depends_on: list[ExistingFile] = []
    batch_size: Annotated[Count | None, NotInKey()] = None  # lanes, or rows of a block; chosen if left out

    @field_validator("retry", mode="before")
    @classmethod
    def _what_is_left_out_stays(cls, given: Any, info: ValidationInfo) -> Any:
        """Let the keys that [simulate.retry] leaves out be those of [simulate.solver]."""
        solver = info.data.get("solver")
        return solver.model_dump() | given if solver and isinstance(given, dict) else given

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

    max_rounds: Annotated[int, Field(ge=0), NotInKey()] = 0  # how far to go changes no round
    simulations_per_round: Count = 200
    stretch: Positive = 1.5  # of the posterior about its median
    keep: Count | None = None  # train on this many rows closest to the data, at least; on all if left out
