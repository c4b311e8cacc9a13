"""What cannot be asked of the scatter of data: a flow of what does not, or of counts; no noise."""

from __future__ import annotations

from simfer.stages.errors import Mistake
from simfer.stages.model.observation import Series
from simfer.stages.settings import Problem
from simfer.stages.settings.noise import UNLEARNED


def scatter_mistakes(config: Problem, stochastic: bool) -> list[Mistake]:
    """List what is wrong with `train.scatter`, and with noise that is "none"."""
    without = [name for name, noise in config.noise.items() if noise.dist == "none"]
    if not stochastic:
        return _of_no_scatter(config, without)
    found = [_other_transform(config, name) for name in without if _transform(config, name) not in ("none", "log")]
    if config.train.scatter == "gaussian":
        found += _beside_no_noise(config) if without else []
        return found
    if config.train.ensemble_size < 2:
        what = "got 1, expected 2 or more: what a flow does not know shows in how far its trainings differ"
        found.append(Mistake("train.ensemble_size", what))
    if config.train.scatter == "flow":
        what = 'have no density that a flow could learn, being counts or truncated; take train.scatter = "gaussian"'
        found += [
            Mistake(f"noise.{name}.dist", f'got "{noise.dist}": these data {what}')
            for name, noise in config.noise.items()
            if noise.dist in UNLEARNED
        ]
    return found


def series_mistakes(config: Problem, name: str, series: Series) -> list[Mistake]:
    """List what keeps the data of one output from having a density."""
    without, found = config.noise[name].dist == "none", []
    if without and len(set(series.index.tolist())) < len(series.index):
        what = "several data in one place, which would have to be the same without noise; say how measuring scatters"
        found.append(Mistake(f"noise.{name}.dist", f'got "none" and {what}'))
    if series.side is not None and (without or config.train.scatter == "flow"):
        where, got = ("noise", f'noise.{name} = "none"') if without else ("train.scatter", '"flow"')
        what = "and data of which a bound alone is known, which have no density"
        found.append(Mistake(f"{where}.{name}" if without else where, f"got {got} {what}; leave these data out"))
    return found


def _of_no_scatter(config: Problem, without: list[str]) -> list[Mistake]:
    what = "the simulator is not random: without noise its outputs would have to meet the data exactly"
    found = [Mistake(f"noise.{name}.dist", f'got "none", but {what}; say how data scatter') for name in without]
    if config.train.scatter == "flow":
        what = "the simulator is not random, so that data scatter as the noise says and there is no shape to learn"
        found.append(Mistake("train.scatter", f'got "flow", but {what}; leave it out'))
    return found


def _transform(config: Problem, name: str) -> str:
    return config.dataset.transform.get(name, "none")


def _other_transform(config: Problem, name: str) -> Mistake:
    what = f'got "{_transform(config, name)}"; an output without noise is learned as it is ("none") or as its "log"'
    return Mistake(f"dataset.transform.{name}", what)


def _beside_no_noise(config: Problem) -> list[Mistake]:
    """List noise that is Gaussian in no scale, beside data that have none: neither can be integrated over then."""
    gaussian = {"none", "Normal", "LogNormal", "MultivariateNormal"}
    return [
        Mistake(f"noise.{name}.dist", f'got "{noise.dist}" beside data with noise "none"; take train.scatter = "flow"')
        for name, noise in config.noise.items()
        if noise.dist not in gaussian
    ]
