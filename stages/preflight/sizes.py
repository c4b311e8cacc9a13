"""Whether what a config asks for can be held at all: estimated before it is asked for."""

from __future__ import annotations

import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from simfer.stages.emulator.networks import build_networks, network_options
from simfer.stages.errors import Mistake
from simfer.stages.model.outputs import Layout
from simfer.stages.model.space import Space
from simfer.stages.settings import Problem

_COPIES = 4  # of the weights while they are trained: themselves, their gradient, and two moments of Adam's
_MOST_ON_DISK = 1e14  # bytes: more than a disk holds


def size_mistakes(config: Problem, layout: Layout) -> list[Mistake]:
    """List what takes more memory than this machine has, or more disk than any."""
    space, settings = Space(config.parameters), config.simulate
    found, memory = [], _memory()
    row = 8 * layout.size * (1 + settings.derivatives * space.size)
    if (rows := row * settings.num_simulations) > _MOST_ON_DISK:
        what = f"{settings.num_simulations:,} rows of {layout.size:,} values are {rows / 1e12:,.0f} TB"
        found.append(Mistake("simulate.num_simulations", f"{what}, more than a disk holds"))
    if row > memory:
        what = f"a single row takes {_in_words(row)}, of which this machine has {_in_words(memory)}"
        found.append(Mistake("simulate.options", f"{what}: observe at fewer times, or fewer outputs"))
    asked = {"simulate.num_simulations": settings.num_simulations if not found else 0}
    asked["refine.simulations_per_round"] = config.refine.simulations_per_round if config.refine.max_rounds else 0
    for where, num in asked.items():
        if (designed := 8 * num * (2 * space.size + 2)) > memory:
            what = f"the parameters of {num:,} rows take {_in_words(designed)}"
            found.append(Mistake(where, f"{what}; this machine has {_in_words(memory)}"))
    return [*found, *_draws(config, space.size, memory)]


def _draws(config: Problem, size: int, memory: float) -> list[Mistake]:
    """List more draws than can be held: each is a whitened point, its parameters, and what the sampler says of it."""
    infer = config.infer
    draws = infer.num_chains * (infer.num_warmup + infer.num_samples)
    if (held := 8 * draws * (2 * size + 5)) <= memory:
        return []
    what = f"{draws:,} draws, those of the warm-up too, take {_in_words(held)}; this machine has {_in_words(memory)}"
    return [Mistake("infer.num_samples", f"{what}: lower infer.num_samples, num_warmup or num_chains")]


def network_size_mistakes(config: Problem, where: str, layout: Layout) -> list[Mistake]:
    """List an architecture whose weights take more memory, while they are trained, than this machine has."""
    size, context = Space(config.parameters).size, {"layout": layout, "families": Space(config.parameters).families}
    context |= {"varies": (True,) * layout.size}
    keys = jax.random.split(jax.random.key(0), 1)
    options, train = network_options(config.train), config.train
    networks = eqx.filter_eval_shape(
        lambda: build_networks(train.architecture, options, (size, layout.size), keys, train.dtype, context)
    )
    weights = sum(
        int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(networks) if _is_array(leaf)
    )
    needed, memory = _COPIES * train.ensemble_size * weights, _memory()
    if needed <= memory:
        return []
    what = (
        f"{train.ensemble_size} networks take about {_in_words(needed)} to train; this machine has {_in_words(memory)}"
    )
    return [Mistake(where, f"{what}: lower train.width, train.depth or train.ensemble_size")]


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct) and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)


def _memory() -> float:
    """Return the bytes of memory that this machine has; without bound where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _in_words(num_bytes: float) -> str:
    return f"{num_bytes / 1e12:,.1f} TB" if num_bytes >= 1e12 else f"{num_bytes / 1e9:,.1f} GB"
