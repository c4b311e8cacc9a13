"""Stage 5: posterior draws go through the true simulator, which says whether the posterior can be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from simfer.stages import plots
from simfer.stages.artifacts.netcdf import write_netcdf
from simfer.stages.artifacts.posterior import AT_DATA, Posterior
from simfer.stages.artifacts.simulations import SIMULATIONS, Simulations
from simfer.stages.artifacts.verdict import VERDICT, Verdict
from simfer.stages.batches import in_batches
from simfer.stages.check import density, own_model, unsolved
from simfer.stages.check.convergence import convergence_figures
from simfer.stages.check.evidence import Evidence, dropped, emulator_figures, errors, gather, no_evidence
from simfer.stages.check.first import first_figures
from simfer.stages.check.residuals import by_output, member_figures, no_residuals, scatter_figures, standardise
from simfer.stages.check.solver_error import solver_figures
from simfer.stages.check.step import step_figures
from simfer.stages.check.verdict import Figure, Said, edge_mass, in_words, stored
from simfer.stages.check.without import figures_without, table_of
from simfer.stages.infer.exact import Exact
from simfer.stages.infer.posterior import named_draws
from simfer.stages.infer.predictor import load_predictor
from simfer.stages.infer.target import Target, build_target
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.progress import Progress
from simfer.stages.settings import HANDED, Check, CheckConfig
from simfer.stages.simulate import design
from simfer.stages.simulate.asked.waiting import told
from simfer.stages.simulate.border import Border
from simfer.stages.simulate.failures import UnsolvedDraws, cure, unsolved_draws
from simfer.stages.simulate.rows import fill
from simfer.stages.summary import Summary, Table

REWEIGHTED = "reweighted.nc"
NO_K_HAT = (
    "simulated anew at posterior draws, in units of the predicted sd (the simulator is random, so nobody knows its "
    "likelihood at a draw: there are no weights, and no k-hat)"
)
_FEWEST = 25  # usable draws below which nothing can be compared: a fifth of them, five at least, make a Pareto tail


def fills_accelerator(_: CheckConfig) -> bool:
    """Say that there is never enough to do for an accelerator: a hundred rows, and thousands of draws."""
    return False


def run(config: CheckConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> Summary:
    """Simulate a sample of the posterior, compare, and give the verdict."""
    if config.infer.model:
        return _of_own_model(config, inputs, folder, progress)
    target = build_target(config, load_predictor(config, inputs["emulator"][0]))
    posterior, space = Posterior.load(inputs["posterior"][0]), Space(config.parameters)
    draws, border = posterior.z(), Border.load(inputs["posterior"][0], space)
    handed = posterior.z(HANDED)  # more draws than these ask for no other simulations
    behind = unsolved.beyond(border, len(handed), space.size, config.check)
    at_edge = _at_edge(config, target, draws)
    draws = handed[np.sort(design.picked(len(handed), config.check.num_draws, config.check.seed))]
    if config.simulate.kind == "table":
        return _without_simulator(config, target, draws, at_edge, posterior.tree(but=AT_DATA), inputs, folder)
    z = np.concatenate([draws[:, : space.size], behind.z])
    points, stream = lambda a, b: z[a:b], f"check-{config.round}"
    _keep_rows(folder, z)
    backend, _ = told(inputs, config.simulate, space, z)
    simulations = fill(folder, config.simulate, space, len(z), points, progress, stream, backend).simulations
    rounds = [Simulations.load(path) for path in inputs["simulations"]]
    training = [*rounds, *map(Simulations.load, inputs["checks"])]
    drawn = slice(0, len(draws))
    found = unsolved_draws(z[drawn], simulations.endings()[1][drawn], training, space)
    _, y, solved = simulations.rows(0, len(simulations))
    usable = solved[drawn]
    if target.predictor.random is None:
        comparison = _by_weights(config.check, target, draws[usable], y[drawn][usable], folder)
    else:
        compare = _by_scatter if target.flow is None else _by_density
        comparison = compare(config, target, draws[usable], y[drawn][usable], posterior.z())
    named, answered = draws[:, : target.num_named], solved[len(draws) :]
    failures = unsolved.figures(config.check, config.simulate, training, named, usable, behind, answered)
    failures += unsolved.too_many(config.simulate, rounds[-1], config.round)
    figures = [
        *comparison.figures,
        *_figures(config.check, target, draws, failures, at_edge, posterior.tree(but=AT_DATA), border),
    ]
    figures += solver_figures(config, target, draws, y[drawn], usable)
    first = load_predictor(config, inputs["first"][0]) if "first" in inputs else target.predictor
    figures += first_figures(config.check, first, target.likelihood.index)
    p = comparison.predictive_p
    figures.append(Figure("posterior predictive p", "model", p, config.check.min_predictive_p, True))
    helps = cure(config.simulate, simulations.endings()[1])
    return _write(folder, figures, {comparison.title: comparison.table}, len(z), found, helps)


def _of_own_model(
    config: CheckConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress
) -> Summary:
    """Simulate wherever some draws of a model of the user's own ask for it, compare, and give the verdict."""
    asked, space = own_model.ask(config, inputs), Space(config.parameters)
    z, stream = np.nan_to_num(asked.flat), f"check-{config.round}"
    _keep_rows(folder, z)
    backend, _ = told(inputs, config.simulate, space, z)
    simulations = fill(folder, config.simulate, space, len(z), lambda a, b: z[a:b], progress, stream, backend)[0]
    training = [Simulations.load(path) for role in ("simulations", "checks") for path in inputs[role]]
    found = unsolved_draws(z, simulations.endings()[1], training, space)
    _, y, usable = simulations.rows(0, len(simulations))
    solved = asked.by_draw(usable & np.isfinite(asked.flat).all(axis=1))
    y = y.reshape(*asked.points.shape[:2], -1)
    enough = solved.sum() >= _FEWEST
    beside = own_model.compare(asked, y, solved) if enough else own_model.nothing(asked.target)
    tree = Posterior.load(inputs["posterior"][0]).tree()
    figures = own_model.figures(config, asked, beside, solved, y, tree)
    helps = cure(config.simulate, simulations.endings()[1])
    return _write(folder, figures, {own_model.TITLE: own_model.table(beside)}, len(z), found, helps)


def _without_simulator(
    config: CheckConfig,
    target: Target,
    draws: Float[np.ndarray, "draws size"],
    at_edge: float,
    tree: xr.DataTree,
    inputs: Mapping[str, Sequence[Path]],
    folder: Path,
) -> Summary:
    """Say what can be said without a simulator: no verdict, but the figures that need none."""
    space, solved = Space(config.parameters), np.zeros(len(draws), np.int8)
    found = unsolved_draws(draws[:, : space.size], solved, [Simulations.load(p) for p in inputs["simulations"]], space)
    figures = [*figures_without(config.check, target, draws), *_figures(config.check, target, draws, [], at_edge, tree)]
    title = "emulator error at runs that it had not seen, near the data, in data sigma"
    return _written(folder, figures, None, Said(), {title: table_of(target, draws)}, 0, found)


def _keep_rows(folder: Path, z: Float[np.ndarray, "rows size"]) -> None:
    """Remove rows that lie in the folder already, from another check of the same draws, unless they are those."""
    if (folder / SIMULATIONS).exists():
        stored, status, _ = Simulations.load(folder).endings()
        done = status != Status.PENDING
        if stored.shape != z.shape or not np.array_equal(stored[done], z[done]):
            rmtree(folder / SIMULATIONS)


def load(folder: Path, config: CheckConfig) -> Verdict:
    """Open the verdict of the true simulator on the posterior."""
    return Verdict.load(folder).held_against(config.limits)


class Comparison(NamedTuple):
    """What the predictions come to beside the true simulator, at the usable draws."""

    figures: list[Figure]
    predictive_p: float
    title: str
    table: Table  # by output


def _by_weights(limits: Check, target: Target, draws: np.ndarray, y: np.ndarray, folder: Path) -> Comparison:
    """Compare likelihoods; write the draws with the weights that make them the simulator's."""
    enough = len(draws) >= _FEWEST
    evidence = gather(target, draws, y) if enough else no_evidence(target)
    if limits.reweight and enough:
        _reweight(folder / REWEIGHTED, named_draws(target, draws), evidence)
    table = errors(target, evidence, dropped(target, draws, y) if enough else {})
    title = "emulator error at the posterior, in data sigma"
    figures = emulator_figures(limits, target, evidence)
    if enough and not all(figure.passed for figure in figures):
        figures += step_figures(target, draws, y)
    return Comparison(figures, evidence.predictive_p, title, table)


def _by_scatter(
    config: CheckConfig, target: Target, draws: np.ndarray, y: np.ndarray, posterior: np.ndarray
) -> Comparison:
    """Compare a random simulator's outputs with the distribution that is predicted for them."""
    residuals = standardise(target, draws, y) if len(draws) >= _FEWEST else no_residuals(target)
    figures = scatter_figures(config.check, residuals, 1 + config.round)
    figures += member_figures(config.check, target, posterior)
    return Comparison(figures, residuals.predictive_p, NO_K_HAT, by_output(target, residuals))


def _by_density(
    config: CheckConfig, target: Target, draws: np.ndarray, y: np.ndarray, posterior: np.ndarray
) -> Comparison:
    """Compare a random simulator's outputs, with noise, with data that the flow draws, and the flow's members."""
    found = density.exchange(target, draws, y) if len(draws) >= _FEWEST else density.no_exchange(target)
    figures = density.density_figures(config.check, target, found, posterior, 1 + config.round)
    return Comparison(figures, found.predictive_p, density.TITLE, density.by_output(target, found))


def _at_edge(config: CheckConfig, target: Target, draws: Float[np.ndarray, "draws size"]) -> float:
    """Return the posterior mass at a prior's edge, the priors being the config's, which says which edge is meant."""
    theta_z, noise_z, _ = target.split(draws)
    spaces = Space(config.parameters), target.likelihood.noise_space
    scores = [np.asarray(space.scores(part)) for space, part in zip(spaces, (theta_z, noise_z), strict=True)]
    names = [*spaces[0].names, *spaces[1].names]
    z = dict(zip(names, np.concatenate(scores, axis=1).T, strict=True))
    return edge_mass(spaces[0].priors | spaces[1].priors, named_draws(target, draws), z)


def _figures(
    limits: Check,
    target: Target,
    draws: Float[np.ndarray, "draws size"],
    failures: list[Figure],
    at_edge: float,
    tree: xr.DataTree,
    border: Border | None = None,
) -> list[Figure]:
    """Return the figures of domain, failures, prior and sampler."""
    return [
        *_domain(limits, target, draws),
        *failures,
        Figure("posterior mass at a prior's edge", "prior", at_edge, limits.max_edge),
        *convergence_figures(limits, target, tree, border),
    ]


def _domain(limits: Check, target: Target, draws: Float[np.ndarray, "draws size"]) -> list[Figure]:
    """Return the share of draws where the emulator was not trained; nothing where the simulator is the likelihood."""
    predictor = target.predictor
    if isinstance(predictor, Exact):
        return []
    inside = in_batches(predictor.domain.holds, predictor.space.on_circle(target.split(draws)[0]))
    return [Figure("draws outside the training domain", "domain", float(np.mean(~inside)), limits.max_outside)]


def _reweight(file: Path, named: Mapping[str, Float[np.ndarray, " draws"]], evidence: Evidence) -> None:
    """Write the simulated draws with their weights: no row is repeated, so nothing is lost."""
    values = {name: ("draw", drawn) for name, drawn in named.items()}
    attributes = {"k_hat": evidence.k_hat, "comment": "weights sum to one; draws are those that check simulated"}
    write_netcdf(xr.Dataset(values | {"weight": ("draw", evidence.weights)}, attrs=attributes), file)


def _write(
    folder: Path, figures: list[Figure], errors: dict[str, Table], simulated: int, found: UnsolvedDraws, helps: str
) -> Summary:
    passed = all(figure.passed for figure in figures)
    return _written(folder, figures, passed, Said(found.sentence, helps), errors, simulated, found)


def _written(
    folder: Path,
    figures: list[Figure],
    passed: bool | None,
    said: Said,
    errors: dict[str, Table],
    simulated: int,
    found: UnsolvedDraws,
) -> Summary:
    words = in_words(figures, said, simulates=passed is not None)
    rows = [figure.row() for figure in figures]
    verdict = {"passed": passed, "verdict": words, "figures": [stored(row) for row in rows], "said": said._asdict()}
    (folder / VERDICT).write_text(json.dumps(verdict, indent=1, allow_nan=False))
    plots.verdict(folder / "verdict.png", rows, checked=passed is not None)
    facts = {"passed": passed, "verdict": words, "simulations": simulated}
    return {
        "facts": facts | {"draws_where_simulations_failed": found.share_uncertain},
        "tables": {
            "verdict": [figure.line() for figure in figures],
            **errors,
            "draws that the simulator cannot solve (the first few)": found.table,
        },
        "warnings": found.warnings,
        "said": said._asdict(),  # for who reads the figures by other thresholds
        "pictures": ["verdict.png"],
    }
