"""A NumPyro model of the user's own, run once on shapes alone before anything is simulated."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from simfer.stages.errors import ConfigError, Mistake
from simfer.stages.infer.own_model.calls import ones
from simfer.stages.infer.own_model.target import Model
from simfer.stages.infer.own_model.whitening import WHERE
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.settings import Problem
from simfer.stages.settings.spelling import unwritable


def own_model_mistakes(config: Problem, layout: Layout, stochastic: bool) -> list[Mistake]:
    """List what is wrong with a model, and with what stands beside it; what its own code raises goes through."""
    if stochastic:
        what = "the simulator is random, so that nobody knows the likelihood that the check would hold a model against"
        return [Mistake(WHERE, f"{what}; give [noise] in its place")]
    try:
        model = Model(config, Space(config.parameters), layout)  # type: ignore[arg-type]
    except ConfigError as error:
        return error.mistakes
    return [*_names(model), *_data(model)] or _slopes(model)


def _names(model: Model) -> Iterator[Mistake]:
    for name in (*model.named, *model.observed):
        if what := unwritable(name):
            yield Mistake(WHERE, what)


def _data(model: Model) -> Iterator[Mistake]:
    """Yield sites of data that are no numbers: an empty cell, most often."""
    ran, _ = model.run(ones(model.layout), jnp.zeros(model.size))
    for name, each in ran.observed.items():
        values = np.asarray(each.value, float)
        there = ~np.isnan(values)
        if not there.all() and not np.isfinite(each.log_prob).all():  # what is masked counts for nothing
            what = f'"{name}" observes values that are no numbers; a cell of the data is empty there'
            yield Mistake(WHERE, f"{what}: mask it (numpyro.handlers.mask), or leave its row out")
        elif not (np.asarray(each.fn.support(each.value)) | ~there).all():
            kind = type(each.fn).__name__
            yield Mistake(
                WHERE, f'"{name}" observes values that {kind} cannot give, such as negative numbers or halves'
            )


def _slopes(model: Model) -> list[Mistake]:
    def density(z: Array) -> Array:
        ran, _ = model.run(ones(model.layout), z)
        return ran.log_likelihood + ran.log_prior_ratio

    try:
        shape = jax.eval_shape(jax.grad(density), jnp.zeros(model.size)).shape
    except ConfigError as error:
        return error.mistakes
    assert shape == (model.size,)
    return []
