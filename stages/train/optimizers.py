"""Optimizers by their Optax names, with their own arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import jax
import numpy as np
import optax
from optax.contrib import muon

from simfer.stages.errors import Mistake, did_you_mean
from simfer.stages.settings import Train

# Steps that make what a matrix is moved by orthogonal. With five, Optax's own number, a training of residual networks
# takes a third longer, for errors a tenth to a sixth smaller at the median.
_NEWTON_SCHULZ = 3
_OURS = {"learning_rate"}  # arguments that other settings give
_OTHERWISE = {"lbfgs": "train.finish_steps takes such steps, with the whole batch that they need"}


def optimizer(settings: Train) -> optax.GradientTransformation:
    """Build the optimizer that the settings name (`Train.descending`), its learning rate on their schedule."""
    assert settings.optimizer is not None and settings.learning_rate is not None
    highest, steps = settings.learning_rate, settings.steps
    rate: Any = {
        "constant": lambda: highest,
        "cosine": lambda: optax.warmup_cosine_decay_schedule(0.0, highest, max(steps // 50, 1), steps),
        "exponential": lambda: optax.exponential_decay(highest, max(steps // 7, 1), 0.5),
    }[settings.schedule]()
    return known()[settings.optimizer](rate, **settings.optimizer_options)


def known() -> dict[str, Callable[..., Any]]:
    """Return Optax's optimizers by name: whatever there is made with a learning rate."""
    return {"muon": partial(muon, ns_steps=_NEWTON_SCHULZ)} | {
        name: make
        for name, make in vars(optax).items()
        if isinstance(make, (FunctionType, partial)) and not name.startswith(("_", "scale_by", *_OTHERWISE))
        if next(iter(inspect.signature(make).parameters), "") == "learning_rate"
    }


def mistakes(settings: Train) -> list[Mistake]:
    """List what is wrong with the optimizer's name and arguments."""
    if settings.optimizer is None:
        options = settings.optimizer_options
        what = f'got {options}, and no train.optimizer whose arguments they are; name it, as optimizer = "adam"'
        return [Mistake("train.optimizer_options", what)] if options else []
    name, table = settings.optimizer, known()
    if name in _OTHERWISE:
        return [Mistake("train.optimizer", f'got "{name}"; {_OTHERWISE[name]}')]
    if name not in table:
        return [Mistake("train.optimizer", f'optax has no optimizer "{name}".{did_you_mean(name, table)}')]
    arguments = [each for each in inspect.signature(table[name]).parameters if each not in _OURS]
    wrong = [
        Mistake(
            f"train.optimizer_options.{each}",
            f"{name} takes {', '.join(arguments)}.{did_you_mean(each, arguments)}"
            + (" The rate is train.learning_rate." if each in _OURS else ""),
        )
        for each in settings.optimizer_options
        if each not in arguments
    ]
    return wrong or _failure(settings)


def _failure(settings: Train) -> list[Mistake]:
    """Take a step, and say what stands in its way: an argument of a wrong kind, or one that is missing."""
    try:
        optim, weights = optimizer(settings.descending(0)), {"w": np.zeros((2, 2))}
        jax.eval_shape(lambda w: optim.update(w, optim.init(w), w), weights)
    except Exception as error:  # whatever Optax makes of it
        options = settings.optimizer_options
        what = f"optax.{settings.optimizer} cannot be made with {options}: {str(error).splitlines()[0]}"
        return [Mistake("train.optimizer_options", what)]
    return []
