"""A whole config file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from simfer.stages.settings import vectors
from simfer.stages.settings.cost import by_cost
from simfer.stages.settings.derived import AnyDerived
from simfer.stages.settings.experiments import Experiment, written_out
from simfer.stages.settings.fields import Settings
from simfer.stages.settings.fit import Fit
from simfer.stages.settings.inference import Calibrate, Check, Infer, Sensitivity
from simfer.stages.settings.joint import JointPrior
from simfer.stages.settings.noise import SHARES, AnyNoise, Quantity, arguments, quantities
from simfer.stages.settings.noise_families import CustomNoise
from simfer.stages.settings.observation import Observation
from simfer.stages.settings.parameters import Parameters
from simfer.stages.settings.plots import Plots
from simfer.stages.settings.priors import Prior, is_positive, is_share
from simfer.stages.settings.simulation import LEAST_ROWS, Refine, Simulate
from simfer.stages.settings.slices import Slice
from simfer.stages.settings.spelling import clashes, unwritable
from simfer.stages.settings.training import Compare, Curve, Dataset, Train, Tune


class Problem(Settings):
    """A whole config file: one inference problem."""

    # What is left out is made unchecked: to check a table of its own, Pydantic would build it another validator.

    parameters: Annotated[Parameters, Field(min_length=1)]
    """What the simulator takes: a number is a fixed value, a table a prior."""
    priors: dict[str, JointPrior] = {}
    """Joint priors of several parameters, by names of yours."""
    experiments: dict[str, Experiment] = {}
    """Several experiments with one simulator: options and data of each; parameters are shared, but `per` experiment."""
    derived: dict[str, AnyDerived] = {}
    """Quantities that follow from parameters and outputs: a formula, or a table with `formula`, `unit` and `label`."""
    simulate: Simulate
    """Where to simulate, with what, and how many times."""
    dataset: Dataset = Dataset.model_construct()
    """How rows become a training set."""
    train: Train = Train.model_construct()
    """Which network, how many of them, and how they are trained."""
    observation: Observation
    """The data."""
    noise: dict[str, AnyNoise] = {}
    """How data scatter around each output that was measured; an own `infer.model` says it in its place."""
    noise_parameters: Parameters = {}
    """Numbers or priors that the noise of several outputs shares: an argument names them, alone or in a formula."""
    infer: Infer = Infer.model_construct()
    """How the posterior is drawn from."""
    check: Check = Check.model_construct()
    """How the posterior is held against the true simulator, and from where on it fails."""
    refine: Refine = Refine.model_construct()
    """Further rounds: simulate where the last round's posterior is, and train again."""
    calibrate: Calibrate = Calibrate.model_construct()
    """How coverage is tested (`simfer calibrate`)."""
    compare: Compare = Compare.model_construct()
    """Which architectures are held against one another (`simfer compare`)."""
    curve: Curve = Curve.model_construct()
    """Error against the number of simulations (`simfer curve`)."""
    tune: Tune = Tune.model_construct()
    """How settings of the training are searched for (`simfer tune`)."""
    sensitivity: Sensitivity = Sensitivity.model_construct()
    """Which parameter moves which output (`simfer sensitivity`)."""
    fit: Fit = Fit.model_construct()
    """How a best fit is looked for (`simfer fit`)."""
    plots: Plots = Plots.model_construct()
    """How pictures for a paper look (`simfer plots`)."""

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, given: Any, info: ValidationInfo) -> Any:
        """Write vectors and experiments out, and joint priors as those of parameters given those before them."""
        if isinstance(given, Mapping) and isinstance(given.get("parameters"), Mapping):
            given = vectors.written_out(given)
        if isinstance(given, Mapping) and _are_tables(given.get("experiments")) and given["experiments"]:
            given = written_out(given)
        if isinstance(given, Mapping):
            given = by_cost(given, LEAST_ROWS)
        if not isinstance(given, Mapping) or not isinstance(given.get("priors"), Mapping):
            return given
        parameters = dict(given.get("parameters", {}))
        for key, table in given["priors"].items():
            try:
                joint = JointPrior.model_validate(table, context=info.context)
            except ValidationError:
                return given  # it is said of the table itself
            try:
                chain = joint.chain([*parameters, *_of_noise(given)])
            except ValueError as error:
                raise ValueError(f"priors.{key}.{error}") from None
            if both := [name for name in chain if name in parameters]:
                raise ValueError(f"priors.{key}: {', '.join(both)} has a place in [parameters] too; leave one out")
            parameters |= chain
        return {**given, "parameters": parameters}

    @model_validator(mode="after")
    def _derived_of_what_there_is(self) -> Problem:
        taken = {*self.parameters, *(each.name for each in self._noise_quantities), *self.noise}
        for name in self.derived:
            if name in taken or (why := unwritable(name)):
                raise ValueError(f"derived.{name}: {'the name is taken; take another' if name in taken else why}")
        return self

    @model_validator(mode="after")
    def _something_to_infer(self) -> Problem:
        if not any(isinstance(value, Prior) for value in self.parameters.values()):
            raise ValueError("parameters: every one is a fixed number; give at least one a prior")
        return self

    @model_validator(mode="after")
    def _somebody_says_how_data_scatter(self) -> Problem:
        if not self.infer.model:
            if not self.noise:
                raise ValueError("noise: missing; say for each output that was measured how data scatter around it")
            return self
        if self.simulate.kind == "table":
            raise ValueError("infer.model: got runs alone, and no simulator that could give what the model asks for")
        beside = {
            "noise": bool(self.noise),
            "noise_parameters": bool(self.noise_parameters),
            "derived": bool(self.derived),
            "refine.keep": self.refine.keep is not None,
            "check.reweight": self.check.reweight,
            'simulate.failures = "impossible"': self.simulate.failures == "impossible",
            'train.loss = "chi_squared"': self.train.loss == "chi_squared",
            f'train.scatter = "{self.train.scatter}"': self.train.scatter != "gaussian",
        }
        if wrong := [place for place, is_there in beside.items() if is_there]:
            why = "the model says how data scatter, and what follows (numpyro.deterministic)"
            raise ValueError(f"infer.model: got {', '.join(wrong)} beside it; leave that out: {why}")
        return self

    @model_validator(mode="after")
    def _names_can_be_written(self) -> Problem:
        found = {name: unwritable(name) for name in (*self.parameters, *self.noise, *self.noise_parameters)}
        if wrong := [f"{name}: {why}" for name, why in found.items() if why]:
            raise ValueError("; ".join(wrong))
        return self

    @model_validator(mode="after")
    def _names_apart(self) -> Problem:
        free = [name for name, value in self.parameters.items() if isinstance(value, Prior)]
        inferred = {each.place: each.name for each in self._noise_quantities if isinstance(each.value, Prior)}
        if wrong := clashes(free, inferred):
            raise ValueError("; ".join(wrong))
        return self

    @model_validator(mode="after")
    def _shared_are_used(self) -> Problem:
        if depends := [
            each.place for each in self._noise_quantities if isinstance(each.value, Prior) and each.value.needs
        ]:
            raise ValueError(f"{', '.join(depends)}: a prior of the noise takes numbers, and names no other quantity")
        used = {each.name for each in self._noise_quantities}
        if unused := [name for name in self.noise_parameters if name not in used]:
            raise ValueError(f"noise_parameters: no argument of a noise names {', '.join(unused)}")
        for output, noise in self.noise.items():
            for key, value in arguments(noise).items():
                shared = self.noise_parameters.get(value) if isinstance(value, str) else None
                if isinstance(shared, Prior) and not isinstance(noise, CustomNoise) and not is_positive(shared):
                    what = f"its prior, {shared.dist}, reaches below zero, where only a positive number makes sense"
                    raise ValueError(f"noise.{output}.{key}: got {value}, but {what}")
                if isinstance(shared, Prior) and key in SHARES and not is_share(shared):
                    what = f"its prior, {shared.dist}, reaches beyond 0 to 1, where only a share makes sense"
                    raise ValueError(f"noise.{output}.{key}: got {value}, but {what}")
        return self

    @property
    def edges_meant(self) -> list[str]:
        """Parameters, and those of the noise, whose prior may end the posterior."""
        every = [*self.parameters.items(), *((each.name, each.value) for each in self._noise_quantities)]
        return [name for name, value in every if isinstance(value, Prior) and value.edge == "meant"]

    @property
    def in_logs(self) -> list[str]:
        """What is drawn on logarithmic axes: what `[plots]` names, and what the prior is even in the logarithm of."""
        even = [name for name, prior in self.parameters.items() if getattr(prior, "dist", "") == "LogUniform"]
        return [*self.plots.log, *even]

    @property
    def units(self) -> dict[str, str]:
        """The units that the config gives to parameters, and to those of the noise."""
        every = [*self.parameters.items(), *((each.name, each.value) for each in self._noise_quantities)]
        return {name: value.unit for name, value in every if isinstance(value, Prior) and value.unit}

    @property
    def _noise_quantities(self) -> list[Quantity]:
        return quantities(self.noise, self.noise_parameters)

    def slice(self, kind: type[Slice], **more: Any) -> Slice:
        """Return the part of this problem that `kind` names; `more` gives the fields that are not sections."""
        sections = {name: getattr(self, name) for name in kind.model_fields if name not in more}
        return kind.model_construct(**sections, **more)  # all of it was validated: no need to build the schema


def _are_tables(given: Any) -> bool:
    return isinstance(given, Mapping) and all(isinstance(table, Mapping) for table in given.values())


def _of_noise(given: Mapping[str, Any]) -> list[str]:
    """List what quantities of the noise may be called, before they are known."""
    noise, shared = given.get("noise"), given.get("noise_parameters")
    tables = {output: table for output, table in noise.items() if isinstance(table, Mapping)} if noise else {}
    own = [
        f"{output}_{key}{end}" for output, table in tables.items() for key in table for end in ("", "_times", "_plus")
    ]
    return [*own, *(shared if isinstance(shared, Mapping) else ())]
