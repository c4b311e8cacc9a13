"""A population looks first; NUTS where it finds one place that NUTS can sample, and the population elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simfer.stages.infer.samplers import nuts, smc
from simfer.stages.infer.samplers.agreement import agreement
from simfer.stages.infer.samplers.centring import find_centring
from simfer.stages.infer.samplers.convergence import ESS, converged, largest_r_hat
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.samplers.metric import Metric
from simfer.stages.infer.samplers.population import ACCEPT
from simfer.stages.infer.samplers.precision import knows_sds
from simfer.stages.infer.samplers.smc import Settled
from simfer.stages.infer.target import Target
from simfer.stages.progress import Progress
from simfer.stages.settings import Infer

_WARMUP = 200  # draws in which a chain adapts its step: where it is and how wide the posterior is, it is told
_LONG = 0.8  # a step at which half as many leaps will do
_AGREE = 1.05  # R-hat of islands whose covariance is believed


def sample(target: Target, settings: Infer, progress: Progress) -> Draws:
    """Look where the posterior lies by a population; let NUTS draw from it if that is one place.

    A chain of NUTS does not go from one place to another, so that draws of several chains have the places in
    proportion to the chains and not to their mass; those of the population have. The population is the answer, too,
    where it has converged and NUTS has not: in a funnel, or along a thin curved ridge; and where it holds what chains
    that agree with one another have missed together: behind a neck, or out in a tail. Then it is said.
    """
    draws = _sample(target, settings, progress)
    if draws.sampler != "nuts":
        why = "chains of NUTS had not converged, or had missed a part"
        if len(draws.places) > 1:
            why = "the posterior lies in several places"
        elif target.guide is not None:  # then none has run
            why = "the emulator's posterior lies in several places"
        progress.note(f"  infer: the population's draws are the answer, and not those of NUTS: {why}")
    return draws


def _sample(target: Target, settings: Infer, progress: Progress) -> Draws:
    if target.guide is not None:
        return _guided(target, target.guide, settings, progress)
    settled = _look(target, settings, progress)
    if settled is None:
        return nuts.sample(target, settings, progress)
    if settled.place.any():
        return settled.draws(settings.num_samples)
    if centring := find_centring(target, settled.population.z.reshape(-1, target.size)):
        centred = centring.on(target)
        if (again := _look(centred, settings, progress)) and not again.place.any():
            return centring.back(_in_one_place(centred, settings, progress, again))
    return _in_one_place(target, settings, progress, settled)


def _in_one_place(target: Target, settings: Infer, progress: Progress, settled: Settled) -> Draws:
    """Let NUTS draw from where a population has settled; hold the two against each other.

    Where they differ, or NUTS has not converged, a larger population is asked. It is the answer if it has converged,
    and NUTS has not or lies within it: what one sampler has seen, and found the weight of, is there. So it is of a
    posterior whose sd a few draws far out make the most of: chains seldom go there.
    """
    drawn, names = _chains(target, settings, progress, settled), target.components
    spent: list[Settled | Draws] = [settled, drawn]
    good = converged(drawn, len(names)) and knows_sds(drawn.z[..., : len(names)])
    told = agreement(drawn.z, settled.population.z, names, settled.heights) if good else None
    if (told is None or told.differ.any()) and settings.num_samples * smc.ISLANDS >= ESS:  # of fewer nothing converges
        enough = smc.POINTS if knows_sds(settled.population.z[..., : len(names)]) else smc.MORE
        larger = smc.settle(target, settings, progress, max(enough, settings.num_samples))
        spent.append(larger)
        population = larger.draws(settings.num_samples)
        told = agreement(drawn.z, larger.population.z, names, larger.heights) if good else None
        if (told is None or (told.differ.any() and told.is_wider)) and converged(population, len(names)):
            return _with_all(population, settled, spent)
    return _with_all(drawn._replace(agreement=told), settled, spent)


def _with_all(drawn: Draws, settled: Settled, spent: Sequence[Settled | Draws]) -> Draws:
    """Return draws with what all samplers took, and with the evidence that the first population has at least.

    That is none if a larger one did not settle.
    """
    settles = all((each.drift or 0.0) <= smc.ADRIFT for each in spent)
    if drawn.log_evidence is None and settles:
        drawn = drawn._replace(log_evidence=settled.log_evidence)
    gradients, seconds = (sum(getattr(each, name) for each in spent) for name in ("num_gradients", "seconds"))
    return drawn._replace(num_gradients=gradients, seconds=seconds)


def _look(target: Target, settings: Infer, progress: Progress, more: int = smc.MORE) -> Settled | None:
    """Return a population at the posterior; None where no draw of the prior is possible, as a simulated row may be."""
    try:
        return smc.settle(target, settings, progress, smc.LOOK, more)
    except smc.NowhereError:
        return None


def _guided(target: Target, guide: Target, settings: Infer, progress: Progress) -> Draws:
    """Look by the emulator, and draw by the simulator: evaluations of the one are nearly free, those of the other not.

    Where the posterior lies in several places, nothing but a population of the simulator's own will do.
    """
    settled = _look(guide, settings.model_copy(update={"likelihood": "emulator"}), progress, more=0)
    if settled is None:
        return nuts.sample(target, settings, progress)
    if settled.place.any():
        return smc.sample(target, settings, progress)
    if centring := find_centring(guide, settled.population.z.reshape(-1, guide.size)):
        by_emulator = settings.model_copy(update={"likelihood": "emulator"})
        if again := _look(centring.on(guide), by_emulator, progress, more=0):
            return centring.back(_chains(centring.on(target), settings, progress, again))
    return _chains(target, settings, progress, settled)


def _chains(target: Target, settings: Infer, progress: Progress, settled: Settled) -> Draws:
    """Start NUTS from points of the population; in its metric, if its islands agree.

    Where the posterior is so like a Gaussian that the population takes long steps, NUTS may take longer ones still: it
    then turns after three leaps and not after seven, for as many effective draws.
    """
    points = settled.population.z[..., : target.size]  # the emulator's have its error at their end
    starts = points[np.arange(settings.num_chains) % len(points), np.arange(settings.num_chains)]
    if largest_r_hat(points) > _AGREE:
        return nuts.sample(target, settings, progress, starts)
    covariance = np.cov(points.reshape(-1, target.size).T).reshape(target.size, target.size)
    accept = settings.accept(like_gaussian=settled.population.step > _LONG)
    known = {"num_warmup": min(_WARMUP, settings.num_warmup), "target_accept": accept}
    metric = Metric(covariance, settled.population.step, ACCEPT)
    return nuts.sample(target, settings.model_copy(update=known), progress, starts, metric)
