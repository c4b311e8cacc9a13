"""The figures of a verdict, held against thresholds when it is read, and what each failure asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, NamedTuple

TABLE = "verdict"  # of a check's summary
LONGER, SIMULATIONS = "longer", "simulations"  # what may help where a verdict is bad
ONE_OF_TWO = 0.5  # of a threshold: one standard error where two shall lie within it, as those of a mean do at min_ess


class Said(NamedTuple):
    """What a check found out beside its figures: which draws the simulator fails at, and what helps."""

    where: str = ""
    cure: str = ""


class _Kind(NamedTuple):
    setting: str  # the threshold: a key of the config
    kind: str  # whose fault a failure is
    share: float = 1.0  # of the setting, that is the threshold


_UNSOLVED, _LEANS = "draws that the simulator cannot solve", 0.05  # and the share of them that steers a design
# By how a figure's name begins; it goes on with an output's name, or its unit.
_FIGURES = {
    "emulator error": _Kind("check.max_emulator_error", "emulator"),
    "log likelihood, simulator - emulator": _Kind("check.max_log_ratio", "emulator"),
    "Pareto k-hat": _Kind("check.max_k_hat", "emulator"),
    "importance sampling efficiency": _Kind("check.min_efficiency", "emulator"),
    "largest shift by reweighting": _Kind("check.max_shift", "emulator"),
    "largest change of an sd by": _Kind("check.max_width_change", "emulator"),
    "largest change of a correlation by": _Kind("check.max_correlation_change", "emulator"),
    "whitened residuals, mean": _Kind("check.max_shift", "emulator"),
    "whitened residuals, |sd - 1|": _Kind("check.max_scatter_error", "emulator"),
    "whitened residuals, p of being normal": _Kind("check.min_scatter_p", "shape"),
    "whitened residuals, p of being as large": _Kind("check.min_scatter_p", "density"),
    "shift between the scatter's members": _Kind("check.max_shift", "density"),
    "change of an sd between the scatter's members": _Kind("check.max_scatter_error", "density"),
    "posterior mass that the scatter's members": _Kind("check.max_member_mass", "density"),
    "shift by leaving out the emulator's error": _Kind("check.max_shift", "density"),
    "change of an sd by leaving out the emulator's error": _Kind("check.max_width_change", "density"),
    "simulated data among the flow's, p": _Kind("check.min_scatter_p", "density"),
    "data simulated at the posterior, p": _Kind("check.min_scatter_p", "density"),
    "error of a mean by the flow's members": _Kind("check.max_member_shift", "density"),
    "error of an sd by the flow's members": _Kind("check.max_scatter_error", "density"),
    "posterior mass out of place": _Kind("check.max_member_mass", "density"),
    "shift between the flow's members": _Kind("check.max_member_shift", "density"),  # this and two more: older verdicts
    "change of an sd between the flow's members": _Kind("check.max_scatter_error", "density"),
    "posterior mass that the flow's members": _Kind("check.max_member_mass", "density"),
    "draws outside the training domain": _Kind("check.max_outside", "domain"),
    "first round's error over the prior": _Kind("check.max_first_error", "first"),
    _UNSOLVED: _Kind("check.max_outside", "failures"),
    "simulations of this round that failed": _Kind("simulate.max_failed", "failures"),
    "draws where the simulator has no answer": _Kind("check.max_outside", "border"),
    "posterior mass left out": _Kind("check.max_outside", "border"),
    "largest shift by dropping draws": _Kind("check.max_shift", "border"),
    "posterior mass at a prior's edge": _Kind("check.max_edge", "prior"),
    "largest R-hat": _Kind("check.max_r_hat", "sampler"),
    "smallest ESS": _Kind("check.min_ess", "sampler"),
    "standard error of an sd": _Kind("check.max_width_change", "sampler", ONE_OF_TWO),
    "two samplers' means apart": _Kind("check.max_shift", "samplers"),
    "two samplers' sds apart": _Kind("check.max_width_change", "samplers"),
    "posterior mass that no chain is in": _Kind("check.max_outside", "samplers"),
    "drift of the population": _Kind("", "population"),
    "separate places": _Kind("", "places"),
    "step of the outputs": _Kind("", "step"),
    "chains far from all": _Kind("", "lost"),
    "divergent transitions": _Kind("check.max_divergent", "sampler"),
    "numerical error of the simulator": _Kind("check.max_solver_error", "solver"),
    "posterior predictive p": _Kind("check.min_predictive_p", "model"),
}
_CURED_BY_DRAWS = "largest R-hat", "smallest ESS", "standard error of an sd"
_CURED_BY_SIMULATIONS = "emulator", "density", "domain", "failures", "border"
_LOST = "failures", "domain"  # where there is nothing to be simulated
_HOPELESS = {"solver", "step", "first"}  # other simulations are needed, and not more of these

_ADVICE = {
    "sampler": "the sampler has not converged: raise infer.max_samples, up to which it goes on from where it stands, "
    "or infer.num_warmup and infer.target_accept, with which NUTS begins anew",
    "places": "the chains lie in separate places, and none goes from one to another: more draws do not help; take "
    "infer.sampler = 'smc' (or 'auto', the default), which finds such places and weighs them",
    "lost": "a chain is far from all that is probable, and its draws mean nothing: take infer.sampler = 'auto', which "
    "starts chains where the posterior lies, or another infer.seed",
    "samplers": "NUTS and the population that it began from do not agree, so that one of them has missed a part of the "
    "posterior: raise infer.num_samples and infer.target_accept, and look at it with infer.sampler = 'smc', too",
    "population": "a part of the posterior is so narrow that the population has not settled in it, and nobody knows "
    "how much mass is there; most often a noise's sd may go to zero, with hardly more data than parameters. More draws "
    "do not help: give that parameter a prior without that part (a LogNormal, or a Uniform from what an instrument "
    "resolves), or take more data",
    "model": "the data are improbable under the model: look at predictive.png, then at the simulator and the noise",
    "prior": "the posterior lies at the edge of a prior: widen that prior, or write edge = 'meant' into it if "
    "it is physics that ends there",
    "domain": "draws lie where nothing was simulated: more rounds (refine.max_rounds) or wider priors",
    "first": "the first round's emulator predicted outputs over the prior no better than a constant would, and later "
    "rounds go where it points, so that a mode elsewhere may be missing: raise simulate.num_simulations",
    "solver": "the simulator's own numerical error is too large beside the noise: lower simulate.solver.rtol and atol "
    "(or dt0, where fixed_step is true), give max_step, or let the simulator say when it jumps (jumps and doses)",
    "step": "the outputs jump where a parameter passes a value (the table says which): no smooth emulator learns that, "
    "and more simulations do not help. Run the problem twice, with that parameter's prior below the value and above "
    "it, and weigh the two posteriors by their evidence and each part's share of the prior",
    "failures": "the simulator has no answer at posterior draws",
    "border": "the border of what can be solved is not known well enough at the posterior: more rounds "
    "(refine.max_rounds), which simulate on both sides of it, or more simulations",
    "shape": "the simulator scatters otherwise than by a Gaussian: train.scatter = 'auto' learns how ('flow', where "
    "that has kept the Gaussian)",
    "density": "the density of the data is not known well enough at the posterior: more rounds (refine.max_rounds), "
    "more simulations, or a larger ensemble (train.ensemble_size)",
    "emulator": "the emulator differs from the simulator at the posterior: more rounds (refine.max_rounds), "
    "more simulations; a network may need longer training (train.steps) or more width",
}

_BY_POPULATION = {
    "sampler": "the population that drew is too small, or has not settled: raise infer.max_samples, up to which a "
    "larger one is drawn",
}
_WITHOUT_SIMULATOR = {
    "domain": "draws lie where the table has no runs: more runs there, or narrower priors",
    "emulator": "the emulator is not exact enough near the data: more runs there; a network may need longer training "
    "(train.steps) or more width",
}


@dataclass(frozen=True)
class Figure:
    """One figure with its threshold; `kind` says whose fault a failure is."""

    name: str
    kind: str
    value: float
    threshold: float
    larger_is_better: bool = False

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Figure:
        """Read a figure from a summary, or from a verdict's file."""
        known = _kind(row["figure"])
        value = float("nan") if row["value"] is None else float(row["value"])
        better = row["limit"].startswith("≥") if "limit" in row else row["larger_is_better"]
        threshold = float(row["limit"][1:]) if "limit" in row else row["threshold"]
        return cls(row["figure"], known.kind if known else row.get("kind", ""), value, threshold, better)

    @property
    def passed(self) -> bool:
        """Whether the value is within the threshold; a value that is not a number is not."""
        within = self.value >= self.threshold if self.larger_is_better else self.value <= self.threshold
        return bool(within)

    @property
    def setting(self) -> str:
        """The key of the config that the threshold is; "" where there is none."""
        known = _kind(self.name)
        return known.setting if known else ""

    def held_against(self, limits: Mapping[str, float]) -> Figure:
        """Return the figure with the config's threshold."""
        known = _kind(self.name)
        if known is None or known.setting not in limits:
            return self
        return replace(self, threshold=known.share * limits[known.setting])

    def row(self) -> dict[str, Any]:
        """Return the figure as plain data."""
        return {
            "figure": self.name,
            "value": self.value,
            "threshold": self.threshold,
            "passed": self.passed,
            "larger_is_better": self.larger_is_better,
        }

    def line(self) -> dict[str, Any]:
        """Return the figure as a reader wants it in a table."""
        limit = f"{'≥' if self.larger_is_better else '≤'} {self.threshold:g}"
        return {"figure": self.name, "value": self.value, "limit": limit, "passed": self.passed}


def stored(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a figure's row as JSON has it: a value that could not be computed is null."""
    return {**row, "value": row["value"] if isfinite(row["value"]) else None}


def _kind(name: str) -> _Kind | None:
    return next((kind for start, kind in _FIGURES.items() if name.startswith(start)), None)


_NOTHING = Said()


def in_words(figures: Sequence[Figure], said: Said = _NOTHING, simulates: bool = True) -> str:
    """Return a verdict in a sentence; `simulates` says whether there is a simulator to give one."""
    failing = [figure for figure in figures if not figure.passed]
    if simulates:
        return f"failed: {advice(figures, *said)}" if failing else "passed: the true simulator agrees"
    words = "not checked: there is no simulator to hold the posterior against, but a table of finished runs alone"
    if failing:
        words += f". Of the figures that need none, {len(failing)} of {len(figures)} fail: "
        words += advice(figures, simulates=False)
    return words


def advice(figures: Sequence[Figure], where: str = "", cure: str = "", simulates: bool = True) -> str:
    """Say in words what failed and what to do next, the cause that hides the others first.

    `where` says which draws the simulator fails at, and `cure` what helps; `simulates` whether there is one to be run.
    """
    told = _ADVICE if simulates else _ADVICE | _WITHOUT_SIMULATOR
    if any(figure.kind == "population" for figure in figures):  # told of draws that are its own
        told = told | _BY_POPULATION
    failed = {figure.kind for figure in figures if not figure.passed}
    if failed & {"places", "lost"}:
        failed -= {"sampler"}  # R-hat and ESS fail for this reason
    if failed & {"step", "first"}:  # the others ask for further rounds, which are no cure
        failed -= {"emulator"}
    if "first" in failed:
        failed -= {"domain"}
    if "shape" in failed:
        failed -= {"density"}  # no Gaussian is the density, however well it is known
    if failed & {"emulator", "step"}:
        failed -= {"model"}  # the draws are not yet the model's: what they predict says nothing of it
    more = {"failures": (f" ({where.rstrip('.')})" if where else "") + (f": {cure}" if cure else "")}
    return "; ".join(text + more.get(kind, "") for kind, text in told.items() if kind in failed)


def judge(summary: Mapping[str, Any], limits: Mapping[str, float]) -> dict[str, Any]:
    """Return a check's summary with the verdict by the thresholds of a config, by their keys."""
    figures = [Figure.from_row(row) for row in summary.get("tables", {}).get(TABLE, [])]
    held = [figure.held_against(limits) for figure in figures]
    if held == figures:
        return dict(summary)
    facts, simulates = dict(summary["facts"]), summary["facts"].get("passed") is not None
    facts |= {"passed": all(figure.passed for figure in held) if simulates else None}
    if [figure.passed for figure in held] != [figure.passed for figure in figures]:
        facts["verdict"] = in_words(held, Said(**summary.get("said", {})), simulates)
    tables = {**summary["tables"], TABLE: [stored(figure.line()) for figure in held]}
    return {**summary, "facts": facts, "tables": tables}


def what_helps(summary: Mapping[str, Any], steered: bool = False) -> str:
    """Say what may help where a verdict is bad: chains that go on, simulations, or nothing that is done by itself.

    Where chains alone fail, no simulation helps them; where the simulator's own error does, the simulations are wrong.
    Nor do they help where the posterior lies among failures though the last design was `steered` away from these.
    """
    facts = summary.get("facts", {})
    if facts.get("passed"):
        return ""
    checked = facts.get("passed", False) is not None  # without a simulator there are no simulations to buy
    figures = [Figure.from_row(row) for row in summary.get("tables", {}).get(TABLE, [])]
    failed = [figure for figure in figures if not figure.passed]
    kinds = {figure.kind for figure in failed}
    curable = {*_CURED_BY_SIMULATIONS} - ({*_LOST} if steered else set())
    if "shape" in kinds:
        curable -= {"density"}
    if checked and (not failed or (kinds & curable and not kinds & _HOPELESS)):
        return SIMULATIONS
    bad = [figure for figure in failed if checked or figure.kind == "sampler"]
    return LONGER if bad and all(figure.name.startswith(_CURED_BY_DRAWS) for figure in bad) else ""


def leans_on_failures(summary: Mapping[str, Any]) -> bool:
    """Say whether the posterior lies where simulations fail, more than a tail of it."""
    rows = [row for row in summary.get("tables", {}).get(TABLE, []) if row["figure"] == _UNSOLVED]
    return any(row["value"] is None or row["value"] > _LEANS for row in rows)
