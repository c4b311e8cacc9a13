"""The studies beside the chain: what each adds to it, how far the chain is run for it, and what its command takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from simfer.pipeline import chain
from simfer.pipeline.chain import ConfigError, Link, Mistake, SimferError

if TYPE_CHECKING:
    from simfer.pipeline.chain import Problem

_SHARES = 0.125, 0.25, 0.5, 1.0
_FEWEST = 20  # rows that can be trained on, as the dataset has it
_RESUMED = "simulate", "train", "infer", "check"  # stages of the chain that go on from what a killed run left


@dataclass(frozen=True)
class Option:
    """An option of a study's command: a short way to set one key of the config."""

    key: str
    type: Any
    help: str

    @property
    def name(self) -> str:
        """Return the option's name, that of the key; one that is given once for each item is in the singular."""
        name = self.key.rpartition(".")[2]
        return name.removesuffix("s") if self.type == list[str] else name


@dataclass(frozen=True)
class Study:
    """A command that adds steps to a chain."""

    name: str
    help: str
    links: Callable[[Problem, int], list[Link]]  # those that it adds to a round
    until: str | None = None  # the stage of the first round to which the chain is run; if none, all of it
    options: tuple[Option, ...] = ()
    needs: tuple[str, str] | None = None  # a module that is optional, and the extra that brings it
    resumes: bool = False  # it goes on from what a killed run, or a shorter one, left in its folder
    suffices: Callable[[Any, Mapping[str, Any]], bool] | None = None  # whether an artifact is as much as is asked for
    needs_noise: bool = False  # it reads [noise], which a model of one's own has not

    def added(self, problem: Problem, number: int) -> list[Link]:
        """List the steps that it adds to round `number`, the last of which is the study itself.

        Raises:
            SimferError: What it needs is not installed, or the config does not allow for it.
        """
        if self.needs and find_spec(self.needs[0]) is None:
            module, extra = self.needs
            what = f'{self.name} needs {module}, which is not installed: pip install "simfer[{extra}]"'
            raise SimferError(what)
        if self.needs_noise and problem.infer.model:
            what = f"{self.name} needs [noise], and this config has a model of your own in its place"
            raise ConfigError([Mistake("infer.model", what)])
        return self.links(problem, number)


def compare_posteriors(problem: Problem, number: int) -> list[Link]:
    """List the steps that hold round `number`'s posterior against the one that the simulator itself gives."""
    from simfer.stages.settings import ComparePosteriorsConfig, InferConfig

    by_simulator = problem.infer.model_copy(update={"likelihood": "simulator"})
    exact = problem.model_copy(update={"infer": by_simulator})
    if found := chain.mistakes(exact):
        raise ConfigError([Mistake("compare-posteriors", each.what) for each in found])
    settings = exact.slice(InferConfig, **chain.likelihood(exact))
    rounds, train = range(number + 1), f"train-{number}"
    inputs = {
        "simulations": tuple(f"simulate-{i}" for i in rounds),
        "checks": tuple(f"check-{i}" for i in rounds),
        "emulators": tuple(f"train-{i}" for i in rounds),
        "posteriors": tuple(f"infer-{i}" for i in rounds),
        "exact": (f"infer-exact-{number}",),
    }
    return [
        Link("infer", number, settings, {"emulator": (train,)}, variant="-exact"),
        Link("compare_posteriors", number, problem.slice(ComparePosteriorsConfig), inputs),
    ]


def calibrate(problem: Problem, number: int) -> list[Link]:
    """List the step that calibrates round `number`'s emulator on simulated data."""
    from simfer.stages.settings import CalibrateConfig

    inputs = {"emulator": (f"train-{number}",), "posterior": (f"infer-{number}",)}
    if problem.simulate.kind == "table":  # nobody can simulate data: held-out runs are what is known
        inputs["dataset"] = (f"dataset-{number}",)
    return [
        Link(
            "calibrate", number, problem.slice(CalibrateConfig, refined=number > 0, **chain.likelihood(problem)), inputs
        )
    ]


def compare(problem: Problem, number: int) -> list[Link]:
    """List the steps that train architectures on the first round's rows and hold them against one another."""
    from simfer.stages.settings import CompareConfig, Train

    suited = Train(architecture="auto").tried
    names = problem.compare.architectures or list(dict.fromkeys([*problem.train.tried, *suited]))
    seeds = {name: problem.train.alone(name).seeds(problem.compare.seeds) for name in names}
    trained = {name: [chain.training(problem, 0, name, seed) for seed in seeds[name]] for name in names}
    inputs = {chain.short_name(name): tuple(link.name for link in links) for name, links in trained.items()}
    settings = problem.slice(CompareConfig, candidates=names, limit=problem.check.max_emulator_error)
    last = Link("compare", 0, settings, inputs | {"dataset": ("dataset-0",)}, optional=frozenset(inputs))
    return [*(link for links in trained.values() for link in links), last]


def curve(problem: Problem, number: int) -> list[Link]:
    """List the steps that train on nested parts of the first round's rows and draw the error against their number."""
    from simfer.stages.settings import CurveConfig

    total = chain.num_rows(problem)
    shares = problem.curve.shares or [share for share in _SHARES if share * total >= _FEWEST]
    if len(shares) < 3 or shares[0] * total < _FEWEST:
        what = f"got {total} simulations, shares of {shares}; expected three of {_FEWEST} simulations or more"
        raise ConfigError([Mistake("curve.shares", what)])
    trained = {
        f"{share:g}": [chain.trainings(problem, 0, seed, share) for seed in problem.train.seeds(problem.curve.seeds)]
        for share in shares
    }
    inputs = {name: tuple(links[-1].name for links in each) for name, each in trained.items()}
    settings = problem.slice(
        CurveConfig,
        **chain.loading(problem),
        parts=list(inputs),
        num_simulations=total,
        target=problem.curve.target or problem.check.max_emulator_error,
    )
    last = Link("curve", 0, settings, inputs | {"dataset": ("dataset-0",)}, optional=frozenset(inputs))
    return [*(link for each in trained.values() for links in each for link in links), last]


def tune(problem: Problem, number: int) -> list[Link]:
    """List the step that searches for better settings of the training, on the first round's rows."""
    from simfer.stages.settings import TuneConfig

    if problem.train.chooses:
        what = 'got "auto", expected the one architecture whose settings to search: --set train.architecture=NAME'
        raise ConfigError([Mistake("train.architecture", what)])
    train = problem.train.alone(problem.train.architecture)
    return [Link("tune", 0, TuneConfig(train=train, tune=problem.tune), {"dataset": ("dataset-0",)})]


def fit(problem: Problem, number: int) -> list[Link]:
    """List the step that finds the best fit; whatever the round, by the emulator of the prior and by the simulator."""
    from simfer.stages.settings import FitConfig

    settings = problem.slice(FitConfig, **chain.likelihood(problem))
    return [Link("fit", 0, settings, {"emulator": ("train-0",)})]


def sensitivity(problem: Problem, number: int) -> list[Link]:
    """List the step that says which parameter moves which output; whatever the round, by the emulator of the prior."""
    from simfer.stages.settings import SensitivityConfig

    inputs = {"simulations": ("simulate-0",), "emulator": ("train-0",)}
    settings = problem.slice(SensitivityConfig, **chain.loading(problem))
    return [Link("sensitivity", 0, settings, inputs)]


STUDIES = {
    study.name: study
    for study in (
        Study(
            "compare-posteriors",
            "Hold the posterior against the one that the simulator itself gives, and say what each has cost.",
            compare_posteriors,
            needs_noise=True,
        ),
        Study(
            "calibrate",
            "Test the coverage of posteriors on data simulated from known parameters.",
            calibrate,
            options=(Option("calibrate.replicates", int, "Number of simulated data sets."),),
        ),
        Study(
            "compare",
            "Train several architectures on the same rows, and hold their errors and costs against one another.",
            compare,
            until="dataset",
            needs_noise=True,
            options=(
                Option(
                    "compare.architectures", list[str], "One to compare, as often as needed: a name, or file.py:Name."
                ),
                Option("compare.seeds", int, "How often each is trained."),
            ),
        ),
        Study(
            "curve",
            "Draw the emulator's error against the number of simulations, and say how many more a target takes.",
            curve,
            until="dataset",
            needs_noise=True,
            options=(
                Option("curve.target", float, "99th percentile of the error to reach, in data sigma."),
                Option("curve.seeds", int, "How often each part is trained on."),
            ),
        ),
        Study(
            "tune",
            "Search for settings of the training that leave a smaller error, and print them for the config.",
            tune,
            until="dataset",
            options=(Option("tune.trials", int, "Number of trials, those of an earlier search counted."),),
            needs=("optuna", "tune"),
            resumes=True,
            suffices=lambda config, summary: summary["facts"]["trials"] >= config.tune.trials,
        ),
        Study(
            "fit",
            "Find the parameters of highest posterior density, and their chi-squared, before or without any sampling.",
            fit,
            until="train",
            needs_noise=True,
            options=(Option("fit.num_starts", int, "Searches through the emulator."),),
        ),
        Study(
            "sensitivity",
            "Say which parameter moves which output over the prior: Sobol indices, and their bounds by gradients.",
            sensitivity,
            until="train",
            needs=("SALib", "sensitivity"),
        ),
    )
}


def study_of(stage: str) -> Study | None:
    """Return the study whose last step is of a stage, if that is none of the chain's."""
    return STUDIES.get(stage.replace("_", "-"))


def resumes(stage: str) -> bool:
    """Say whether the stage goes on from what a killed run left in its folder (otherwise it starts afresh)."""
    study = study_of(stage)
    return study.resumes if study else stage in _RESUMED


def suffices(link: Link, summary: Mapping[str, Any]) -> bool:
    """Say whether an artifact is as much as is asked for; a search goes on where fewer trials ended."""
    study = study_of(link.stage)
    return study is None or study.suffices is None or study.suffices(link.config, summary)
