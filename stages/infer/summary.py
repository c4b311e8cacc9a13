"""What a posterior comes to: its quantities in a table, and how well the sampler did."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from simfer.stages.artifacts.posterior import scalars
from simfer.stages.infer.posterior import PERIOD
from simfer.stages.infer.predictive import Predictive
from simfer.stages.infer.samplers.convergence import in_halves
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.target import Target
from simfer.stages.summary import Summary, Table


def posterior_summary(likelihood: str, target: Target, draws: Draws, predictive: Predictive, table: Table) -> Summary:
    """Sum up draws by the `likelihood` of "emulator" or "simulator", their quantities tabulated already."""
    facts = sampler_facts(draws, table)
    facts |= {"likelihood": likelihood, "emulator_error": "full" if target.errors.with_error else "none"}
    facts |= {f"covariance_of_{'_and_'.join(joint.names)}": joint.said for joint in target.likelihood.joints}
    if target.flow is not None:
        facts |= {"scatter": "flow", "emulator_error": "averaged over the members' densities"}
    if draws.log_evidence is not None:
        facts |= {"log_evidence": draws.log_evidence.value}
        facts |= {"log_evidence_standard_error": draws.log_evidence.standard_error}
    tables = {"posterior": table}
    if len(draws.places) > 1:
        tables["separate places that the posterior lies in"] = draws.places
    if draws.agreement is not None:
        tables["NUTS beside the population that it began from, in posterior sd"] = draws.agreement.table()
    if target.errors.with_error and target.flow is None:
        tables["emulator error in the likelihood"] = _shares(target, predictive)
    return {"facts": facts, "tables": tables, "warnings": warnings_of(facts)}


def sampler_facts(draws: Draws, table: Table) -> dict[str, Any]:
    """Say how a sampler did."""
    statistics, ess = draws.statistics, min(row["ess_bulk"] for row in table)
    facts: dict[str, Any] = {"sampler": draws.sampler, "chains": draws.z.shape[0], "draws": draws.z.shape[1]}
    if "diverging" in statistics:
        facts["divergences"] = int(statistics["diverging"].sum())
    facts |= {"r_hat_max": max(row["r_hat"] for row in table), "ess_bulk_min": ess}
    if "energy" in statistics:
        facts["e_bfmi_min"] = float(e_bfmi(statistics["energy"]).min())
    return facts | {"gradient_evaluations": draws.num_gradients, "ess_per_second": ess / draws.seconds}


def summarize(posterior: xr.Dataset) -> Table:
    """Tabulate each quantity: moments, quantiles, rank-normalized R-hat, bulk and tail ESS (Vehtari et al. 2021).

    What is periodic is cut opposite its mean direction first: its quantiles may lie beyond the prior's bounds.
    """
    from arviz_stats.base import array_stats

    rows = []
    for name, stored in scalars(posterior).items():
        values = unrolled(stored) if PERIOD in stored.attrs else stored
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        rows.append(
            {
                "parameter": name,
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)),
                "q5": float(low),
                "median": float(median),
                "q95": float(high),
                "r_hat": float(array_stats.rhat(in_halves(values.values))),
                "ess_bulk": float(array_stats.ess(values.values)),
                "ess_tail": float(array_stats.ess(values.values, method="tail", prob=(0.05, 0.95))),
                "unit": values.attrs.get("units", ""),
            }
        )
    return rows


def in_one_piece(posterior: xr.Dataset) -> dict[str, np.ndarray]:
    """Return each quantity's draws as pictures and tables have them: what goes round is not torn at its seam."""
    return {
        name: np.asarray(unrolled(values) if PERIOD in values.attrs else values)
        for name, values in scalars(posterior).items()
    }


def unrolled(values: xr.DataArray) -> xr.DataArray:
    """Return values that go round, each within half a turn of their mean direction."""
    turn = values.attrs[PERIOD] / (2.0 * np.pi)
    center = turn * np.angle(np.exp(1j * values.values / turn).mean()) % values.attrs[PERIOD]
    nearest = center + turn * np.angle(np.exp(1j * (values.values - center) / turn))
    return values.copy(data=nearest)


def e_bfmi(energy: Float[np.ndarray, "chains draws"]) -> Float[np.ndarray, " chains"]:
    """Return each chain's Bayesian fraction of missing information (Betancourt 2016, equation 1); below 0.3 is poor."""
    return np.square(np.diff(energy, axis=1)).mean(axis=1) / np.maximum(energy.var(axis=1), 1e-300)


def _shares(target: Target, predictive: Predictive) -> Table:
    rows: Table = []
    for b in target.likelihood.blocks:
        row = {"output": b.name, "share_of_variance": float(np.mean(predictive.error_share[b.name]))}
        if target.predictor.random is not None:
            row["share_of_the_simulators_scatter"] = float(np.mean(predictive.scatter_share[b.name]))
        rows.append(row)
    return rows


def warnings_of(facts: dict[str, Any]) -> list[str]:
    """Say what is wrong with draws, beyond what the verdict says."""
    warnings = []
    if count := facts.get("divergences"):
        warnings.append(f"{count} divergent transition{'s' * (count > 1)}: raise infer.target_accept (0.95)")
    if not facts["r_hat_max"] <= 1.01:
        warnings.append(f"R-hat {facts['r_hat_max']:.3f} is above 1.01: the chains disagree; raise infer.num_warmup")
    if facts.get("e_bfmi_min", np.inf) < 0.3:
        warnings.append(f"E-BFMI {facts['e_bfmi_min']:.2f} is below 0.3: the posterior's tails are poorly explored")
    return warnings
