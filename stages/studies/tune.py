"""Beside the chain: a search for settings of the training that leave a smaller cross-validated error, by Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optuna
from jaxtyping import Float
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from simfer.stages import plots
from simfer.stages.artifacts.training_set import TrainingSet
from simfer.stages.errors import StageError
from simfer.stages.progress import Progress
from simfer.stages.settings import TrainConfig, TuneConfig
from simfer.stages.studies.search_space import changed, current, in_toml, space
from simfer.stages.summary import Summary
from simfer.stages.train.feed import whole
from simfer.stages.train.fitting import Fitted, fit
from simfer.stages.train.losses import capped
from simfer.stages.train.scaling import Prepared, prepare
from simfer.stages.train.stream import Stream

STUDY = "study.log"
_FAILED = "failed"  # a trial's attribute: why
_MIDDLE = "median_row"  # the study's: the squared error of the median row, which caps those of others
_SHOWN = 5


def run(config: TuneConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Try settings until there are as many trials as asked for, those of a killed or shorter search among them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given = TrainConfig(train=config.train.model_copy(update={"loss": "scaled"}))
    dataset = TrainingSet.load(inputs["dataset"][0])
    prepared = prepare(given, dataset)
    as_trained = config.train.descending(len(prepared.fold), dataset.stochastic)
    config = config.model_copy(update={"train": as_trained})
    within = space(config.train)
    if not within:
        raise StageError(f'train.architecture = "{config.train.architecture}" has no option that could be searched')
    study = _open(folder / STUDY, config, within)
    with progress.task("tune", total=config.tune.trials, unit="trials") as task:
        task.advance(len(done(study)))
        while len(done(study)) < config.tune.trials:
            _try(study, config, prepared, within)
            task.advance(1, **_best_so_far(study))
    return _summary(config, study, within, folder)


def _open(file: Path, config: TuneConfig, within: Mapping[str, BaseDistribution]) -> optuna.Study:
    """Open the study, or begin it with the settings as they are; what was cut short is tried again."""
    storage = JournalStorage(JournalFileBackend(str(file)))
    steps = config.train.steps
    # A slow learner is not to be judged by its first steps.
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=steps // 3)
    study = optuna.create_study(study_name="tune", storage=storage, pruner=pruner, load_if_exists=True)
    now = current(config.train)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial({name: now[name] for name in within})
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if set(trial.params) == set(within):
            study.enqueue_trial(trial.params)
    return study


def done(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that came to an end: of themselves, pruned, or by an error of their settings."""
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in ended if trial.state != TrialState.FAIL or _FAILED in trial.user_attrs]


def _try(study: optuna.Study, config: TuneConfig, prepared: Prepared, within: Mapping[str, BaseDistribution]) -> None:
    # Seeded by its number, a trial is the same in a search that was killed before it.
    study.sampler = optuna.samplers.TPESampler(seed=config.tune.seed + len(done(study)))
    trial = study.ask(dict(within))
    same = [t for t in study.get_trials(states=(TrialState.COMPLETE,)) if t.params == trial.params]
    try:
        settings = changed(config.train, trial.params)
        value = same[0].value if same else _loss(fit(settings, *prepared[:3], _Watch(trial)), prepared, study)
        study.tell(trial, value)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except (StageError, ValueError, TypeError) as error:  # settings that the architecture refuses, or that diverge
        trial.set_user_attr(_FAILED, str(error))
        study.tell(trial, state=TrialState.FAIL)


def _loss(fitted: Fitted, prepared: Prepared, study: optuna.Study) -> float:
    """Return the mean squared error of each member, or twin, at the rows that it did not see, in scaled units.

    A row counts no more than it could in a robust loss, beside the median row of the first trial that came to an end:
    one wild row is not to decide, and all trials are to be measured alike.
    """
    each = _unseen(fitted, prepared)
    if _MIDDLE not in study.user_attrs:
        study.set_user_attr(_MIDDLE, float(np.median(each)))
    return float(capped(each, study.user_attrs[_MIDDLE]).mean())


def _unseen(fitted: Fitted, prepared: Prepared) -> Float[np.ndarray, " n"]:
    """Return the squared error of rows, by those who did not see them."""
    rows, fold = prepared.rows, prepared.fold
    networks, folds = fitted.each_with_fold()
    feed = rows.feed(folds) if isinstance(rows, Stream) else whole(rows, fold, folds)
    squared = eqx.filter_jit(lambda network, own: ((jax.vmap(network)(own.x) - own.y) ** 2).mean(axis=1))
    return np.concatenate(
        [squared(network, feed.rows.pick(own)) for network, own in zip(networks, feed.stops, strict=True)]
    )


class _Watch:
    """Follows a training through its progress, and ends it where others were better by then."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial, self.step = trial, 0

    @contextmanager
    def task(self, description: str, total: int, unit: str = "") -> Iterator[_Watch]:
        """Begin a training."""
        yield self

    def advance(self, count: int, **fields: Any) -> None:
        """Report a look at the validation rows. Raises TrialPruned."""
        self.step += count
        if "validation" in fields:
            self.trial.report(fields["validation"], self.step)
            if self.trial.should_prune():
                raise optuna.TrialPruned

    def note(self, text: str) -> None:
        """Drop the line."""


def _completed(study: optuna.Study) -> list[FrozenTrial]:
    ended = [trial for trial in study.get_trials(states=(TrialState.COMPLETE,)) if np.isfinite(trial.value or np.nan)]
    return sorted(ended, key=lambda trial: (trial.value, trial.number))


def _best_so_far(study: optuna.Study) -> dict[str, float]:
    ended = _completed(study)
    return {"best": float(ended[0].value or 0.0)} if ended else {}


def _summary(config: TuneConfig, study: optuna.Study, within: Mapping[str, BaseDistribution], folder: Path) -> Summary:
    trials, ended = done(study), _completed(study)
    failed = [trial.user_attrs[_FAILED] for trial in trials if trial.state == TrialState.FAIL]
    if not ended:
        raise StageError(f"none of {len(trials)} trials came to an end; the first of them said: {failed[0]}")
    best, first = ended[0], trials[0]
    importance = _importance(study) if len(ended) >= 4 else {}
    plots.tuning(folder / "tuning.png", [(t.state.name.lower(), t.value) for t in trials], importance)
    (folder / "best.toml").write_text(in_toml(config.train, best.params) + "\n")
    facts = {
        "trials": len(trials),
        "pruned": sum(trial.state == TrialState.PRUNED for trial in trials),
        "failed": len(failed),
        "loss_as_configured": first.value,
        "smallest_loss": best.value,
    }
    searched = [
        {"setting": name, "between": _words(each), **_importance_of(name, importance)} for name, each in within.items()
    ]
    return {
        "facts": facts,
        "tables": {
            "searched": searched,
            f"the best of {len(ended)} trials that were not cut short": [
                {"trial": t.number + 1, "loss": t.value, **t.params} for t in ended[:_SHOWN]
            ],
        },
        "warnings": [f"a trial failed: {why}" for why in dict.fromkeys(failed)],
        "pictures": ["tuning.png"],
        "to_paste": in_toml(config.train, best.params),
    }


def _importance(study: optuna.Study) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the way to find it is new
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _importance_of(name: str, importance: Mapping[str, float]) -> dict[str, float]:
    return {"importance": importance.get(name, 0.0)} if importance else {}


def _words(within: BaseDistribution) -> str:
    if isinstance(within, optuna.distributions.CategoricalDistribution):
        return ", ".join(map(str, within.choices))
    assert isinstance(within, (optuna.distributions.IntDistribution, optuna.distributions.FloatDistribution))
    return f"{within.low:g} to {within.high:g}" + (", by factors" if within.log else "")
