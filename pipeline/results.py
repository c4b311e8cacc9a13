"""What a run gives to Python: its artifacts as objects, each opened when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from simfer.pipeline import chain, config, description, machine, manifest, runtime
from simfer.pipeline import report as reports
from simfer.pipeline.chain import Problem, SimferError, UserCodeError
from simfer.pipeline.plan import Plan
from simfer.pipeline.progress import reporter
from simfer.pipeline.runner import Outcome, built, damaged, execute, in_a_line
from simfer.pipeline.store import Store

_WITHOUT_CHECKSUMS = ("infer", "check")
Config = str | Path | Mapping[str, Any]


class Asked(NamedTuple):
    """What was asked for."""

    config: Config
    overrides: Sequence[str]
    problem: Problem
    store: Store


@dataclass(frozen=True, repr=False)
class Page:
    """The page of a run: shown in a notebook as it is, and saved as a file of HTML."""

    text: str

    def save(self, file: str | Path) -> Path:
        """Write the page into a file."""
        target = Path(file)
        target.write_text(self.text, encoding="utf-8")
        return target

    def __repr__(self) -> str:
        return f"Page({len(self.text.encode()) / 1e6:.2g} MB of HTML; .save(file) writes it)"

    def _repr_html_(self) -> str:
        # In a frame of its own, so that neither its style nor its script meets those of the notebook.
        frame = 'sandbox="allow-scripts" style="width: 100%; height: 80vh; border: 1px solid #8884"'
        return f'<iframe title="Report" {frame} srcdoc="{escape(self.text, quote=True)}"></iframe>'


@dataclass(frozen=True, repr=False)
class Result:
    """What `run` and `load` return: the latest artifact of each stage, opened when it is first asked for.

    At a prompt it shows the verdict, the posterior and the folders, in a notebook as tables.

    Args:
        outcomes: The latest outcome of each stage: "simulate", "dataset", "train", "infer", "check".
        history: Every step of the run in its order, earlier rounds too; empty of what was loaded.
        asked: What was asked for: the config and its overrides, the same checked, and the store.
        damaged: What is wrong with an artifact that is there and cannot be trusted, by its stage; of what was loaded.

    Example:
        >>> import simfer
        >>> result = simfer.run("line.toml")
        >>> result
        Result: PASSED: the true simulator bears this posterior out.
          parameter ... unit
          start  ...0.1...  cm
          speed  ...1.1...  cm/s
          Folders in data/artifacts:
            simulate/...
    """

    outcomes: Mapping[str, Outcome]
    history: Sequence[Outcome] = ()
    asked: Asked | None = None
    damaged: Mapping[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> dict[str, Path]:
        """The folder of each stage's artifact, by the stage.

        Returns:
            A dict of paths, in the order of the stages; what was not run is not in it.

        Example:
            >>> import simfer
            >>> list(simfer.load("line.toml").folders)
            ['simulate', 'dataset', 'train', 'infer', 'check']
        """
        return {stage: outcome.folder for stage, outcome in self.outcomes.items()}

    @property
    def summaries(self) -> dict[str, dict[str, Any]]:
        """What each stage had to say, by the stage: plain data, read without JAX.

        Returns:
            A dict for each stage: `facts` by name, `tables` (lists of rows) by title, `warnings` (sentences) and
            `pictures` (names of files in the stage's folder), each where there are any.

        Example:
            >>> import simfer
            >>> summaries = simfer.load("line.toml").summaries
            >>> [(row["parameter"], row["unit"]) for row in summaries["infer"]["tables"]["posterior"]]
            [('start', 'cm'), ('speed', 'cm/s')]
        """
        return {stage: outcome.summary for stage, outcome in self.outcomes.items()}

    @cached_property
    def simulations(self) -> Any:
        """The simulations, each with its parameters, outputs and how it ended.

        Returns:
            An `xarray.Dataset` along `simulation`: parameters and outputs by name in their own units (`attrs["units"]`
            of each), `status` (0: it worked) and `num_steps` of the solver, and `z`, the whitened parameters. It is
            read from disk as it is used.

        Raises:
            SimferError: The stage has not been run.

        Example:
            >>> import simfer
            >>> simulations = simfer.load("line.toml").simulations
            >>> simulations["position"].dims, simulations["position"].shape
            (('simulation', 'time'), (64, 5))
        """
        return self._load("simulate")

    @cached_property
    def dataset(self) -> Any:
        """The training set, made of the simulations that worked.

        Returns:
            An `xarray.Dataset` along `row`: whitened parameters `z`, outputs by name in their transformed scale, and
            `fold`, 0 of rows that no network sees. It is read from disk as it is used.

        Raises:
            SimferError: The stage has not been run.

        Example:
            >>> import simfer
            >>> simfer.load("line.toml").dataset["z"].shape
            (64, 2)
        """
        return self._load("dataset")

    @cached_property
    def emulator(self) -> Any:
        """The emulator: named parameters in, named outputs out.

        Returns:
            A `simfer.Emulator`. Parameters and outputs are in their own units.

        Raises:
            SimferError: The stage has not been run.

        Example:
            >>> import simfer
            >>> emulator = simfer.load("line.toml").emulator
            >>> emulator({"start": 0.0, "speed": 1.0})["position"].shape
            (5,)
        """
        return self._load("train")

    @cached_property
    def posterior(self) -> Any:
        """The posterior's draws, as ArviZ reads them.

        Returns:
            An `xarray.DataTree` of ArviZ's InferenceData schema: in the group `posterior` each parameter, in its own
            unit, of shape (chain, draw); beside it `sample_stats`, `posterior_predictive`, `log_likelihood` and
            `observed_data`.

        Raises:
            SimferError: The stage has not been run.

        Example:
            >>> import simfer
            >>> posterior = simfer.load("line.toml").posterior["posterior"]
            >>> posterior["speed"].dims, posterior["speed"].attrs["units"]
            (('chain', 'draw'), 'cm/s')
        """
        return self._load("infer")

    @cached_property
    def verdict(self) -> Any:
        """What the true simulator says of the posterior, figure by figure.

        Returns:
            A verdict: `passed`, and `figures`, plain data of each figure with its threshold.

        Raises:
            SimferError: The stage has not been run.

        Example:
            >>> import simfer
            >>> simfer.load("line.toml").verdict.passed
            True
        """
        return self._load("check")

    def report(self) -> Page:
        """Make the page of the run: verdict, posterior, pictures, explorer, errors, costs, config and code.

        Returns:
            A page that a notebook shows, with `save(file)` to keep it.

        Raises:
            SimferError: Of a result that neither `run` nor `load` returned.

        Example:
            >>> import simfer
            >>> page = simfer.load("line.toml").report()
            >>> page.save("line.html").name
            'line.html'
        """
        if self.asked is None:
            raise SimferError("got a Result of neither simfer.run nor simfer.load: it does not know its config")
        asked = self.asked
        named = asked.config if isinstance(asked.config, Mapping) else Path(asked.config)
        return Page(reports.text_of(asked.problem, asked.store, named, asked.overrides))

    def __repr__(self) -> str:
        return description.result_in_words(self.summaries, self.folders)

    def _repr_html_(self) -> str:
        return description.result_in_html(self.summaries, self.folders)

    def _load(self, stage: str) -> Any:
        if stage not in self.outcomes:
            if what := self.damaged.get(stage):
                raise SimferError(f"{stage} is damaged: {what}; `simfer.run` builds it again")
            raise SimferError(f"{stage} has not been run; there is {', '.join(self.outcomes) or 'nothing yet'}")
        outcome = self.outcomes[stage]
        # Zarr stores and emulators have checksums of their own, and may be large; a NetCDF or JSON file has none.
        if stage in _WITHOUT_CHECKSUMS and (damage := manifest.damage(outcome.folder, outcome.manifest, thorough=True)):
            raise SimferError(f"{stage} is damaged: {in_a_line(damage)}; `simfer.run` builds it again")
        runtime.prepare()
        return chain.load(outcome.step.link, outcome.folder)


def run(
    problem: Config,
    *,
    overrides: Sequence[str] = (),
    store: str | Path | None = None,
    until: str | None = None,
    redo: str | None = None,
    quiet: bool | None = None,
) -> Result:
    """Run a config from its simulator to a checked posterior, and return what came out.

    What the store has already is not run again, and what was interrupted goes on where it was.

    Args:
        problem: A config: a TOML file, or a table of the same keys with paths relative to the working folder.
        overrides: Keys of the config to set, as `--set` does: `["train.steps=2000"]`.
        store: The folder of the artifacts; if left out, `data/artifacts` of the config's project.
        until: The stage of the first round to stop after: "simulate", "dataset", "train", "infer" or "check".
        redo: The stage to build again, and all after it, even if the store has it.
        quiet: Whether to say nothing of progress. If left out, a notebook shows it and nothing else does.

    Returns:
        A `Result`, whose verdict may be bad: look at `result.verdict.passed` before the posterior is used.

    Raises:
        ConfigError: The config cannot be run; all its mistakes at once.
        StageError: A stage cannot go on, as where too many simulations failed.
        UserCodeError: Your own simulator, architecture or noise raised an exception.
        SimferError: A stage that there is none of, or files that cannot be trusted.

    Example:
        >>> import simfer
        >>> result = simfer.run("line.toml")
        >>> result.verdict.passed
        True
        >>> float(result.posterior["posterior"]["speed"].mean())  # cm/s
        1.1...
        >>> simfer.run("line.toml", overrides=["simulate.num_simulations=80"], until="simulate").simulations.sizes
        Frozen({'simulation': 80, 'time': 5, 'parameter': 2})
    """
    checked, folder = _read(problem, overrides)
    place, listener = _store(problem, store), reporter(quiet)
    with machine.in_words():
        result = execute(checked, place, until=until, redo=redo, reporter=listener, folder=folder)
    if isinstance(result.stopped, UserCodeError):
        raise result.stopped
    return Result(result.latest, result.outcomes, Asked(problem, overrides, checked, place))


def load(problem: Config, *, overrides: Sequence[str] = (), store: str | Path | None = None) -> Result:
    """Return what the store has for a config, and run nothing.

    Args:
        problem: A config: a TOML file, or a table of the same keys with paths relative to the working folder.
        overrides: Keys of the config to set, as `--set` does.
        store: The folder of the artifacts; if left out, `data/artifacts` of the config's project.

    Returns:
        A `Result`; what has not been run is not in its `folders`.

    Raises:
        ConfigError: The config cannot be read; all its mistakes at once.

    Example:
        >>> import simfer
        >>> simfer.load("line.toml").verdict.passed
        True
        >>> simfer.load("line.toml", overrides=["simulate.seed=7"])  # which has not been run
        Result: No posterior yet.
    """
    checked, place = _read(problem, overrides)[0], _store(problem, store)
    plan = Plan(checked, place)
    return Result(built(plan), asked=Asked(problem, overrides, checked, place), damaged=damaged(plan))


def _read(problem: Config, overrides: Sequence[str]) -> tuple[Problem, Path]:
    if isinstance(problem, Mapping):
        return config.from_table(problem, overrides, folder=Path.cwd()), Path.cwd()
    return config.load(problem, overrides), Path(problem).resolve().parent


def _store(problem: Config, chosen: str | Path | None) -> Store:
    project = Path.cwd() if isinstance(problem, Mapping) else config.project_folder(Path(problem))
    return config.open_store(project, chosen)
