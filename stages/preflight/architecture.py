"""What only an architecture's constructor can tell of a config: whether it takes what it is given."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, get_args, get_origin, get_type_hints

import equinox as eqx
import jax
import jax.numpy as jnp
from pydantic import TypeAdapter, ValidationError

from simfer.stages.emulator.architectures.base import PROVIDED, Architecture, ClosedForm
from simfer.stages.emulator.networks import build_networks, network_options
from simfer.stages.emulator.scatter import num_entries
from simfer.stages.errors import Mistake, did_you_mean
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.plugins import resolve
from simfer.stages.preflight.words import resolved, unknown_names
from simfer.stages.settings import Code, Problem, Train
from simfer.stages.settings.names import ARCHITECTURES
from simfer.stages.settings.training import short_name

_TWO_NUMBERS = Layout({"a": Output(), "b": Output()})  # two, as a network of one would be taken for all
_MANY_NUMBERS = 96  # that one's own network must have as many of as it is told: y[:3] are two of two
_DEEPEST = 1000  # layers
_EXPECTED = {  # instead of Pydantic's words, which speak of "integers"
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": 'text in quotes, such as "name"',
    "finite_number": "a finite number",
}


def of_each(config: Problem, check: Callable[[Problem, str], list[Mistake]]) -> list[Mistake]:
    """List what is wrong with each architecture that may be trained; `check` is told where its name stands."""
    found: list[Mistake] = []
    for name in dict.fromkeys([*config.train.tried, *config.compare.architectures]):
        one = config.model_copy(update={"train": config.train.alone(name)})
        place = "train.candidates" if name in config.train.candidates else "compare.architectures"
        where = "train.architecture" if name == config.train.architecture else place
        found += check(one, where)
    return list(dict.fromkeys(found))  # a wrong activation is one mistake, whoever has it


def unused_mistakes(config: Problem) -> list[Mistake]:
    """List the settings of layers that none of the architectures has."""
    tried = dict.fromkeys([*config.train.tried, *config.compare.architectures])
    found: list[Mistake] = []
    makes = [resolved("train.architecture", name, ARCHITECTURES, Architecture, found) for name in tried]
    if found:
        return []  # which is said of each
    taken = {name for make in makes if make is not None for name in inspect.signature(make).parameters}
    names = ", ".join(short_name(name) for name in tried)
    return [
        Mistake(f"train.{key}", f"got {getattr(config.train, key)}, and {names} has no such setting; leave it out")
        for key in ("width", "depth", "activation")
        if getattr(config.train, key) is not None and key not in taken
    ]


def architecture_mistakes(config: Problem, where: str) -> list[Mistake]:
    """List what is wrong with the architecture that is to be trained, named at `where`, and with its options."""
    found: list[Mistake] = []
    make = resolved(where, config.train.architecture, ARCHITECTURES, Architecture, found)
    if make is None:
        return found
    known = [name for name in inspect.signature(make).parameters if name not in PROVIDED]
    found += unknown_names("train.options", config.train.options, known)
    return (
        found
        or _options(config.train, make)
        or _depth(config.train)
        or _trial(config.train, _TWO_NUMBERS, 2, "train.options")
        or _of_many(config.train, make)
    )


def _of_many(train: Train, make: Callable[..., Any]) -> list[Mistake]:
    """Try one's own network with many values to learn; one that is told their layout is tried with that."""
    if train.architecture in ARCHITECTURES or "layout" in inspect.signature(make).parameters:
        return []
    return _trial(train, _TWO_NUMBERS, _MANY_NUMBERS, "train.options")


def _options(train: Train, make: Callable[..., Any]) -> list[Mistake]:
    """List the options whose values are not what the constructor's annotations say."""
    places = {
        name: f"train.options.{name}" if name in train.options else f"train.{name}" for name in network_options(train)
    }
    return option_mistakes(make, network_options(train), places)


def _depth(train: Train) -> list[Mistake]:
    """List more layers than can be compiled: JAX takes each by itself, and a minute for a few thousand of them."""
    depth = network_options(train).get("depth")
    if Code.is_own(train.architecture) or not isinstance(depth, int) or depth <= _DEEPEST:
        return []
    where = "train.options.depth" if "depth" in train.options else "train.depth"
    return [Mistake(where, f"got {depth:,}, expected at most {_DEEPEST:,} layers")]


def option_mistakes(make: Callable[..., Any], options: Mapping[str, Any], places: Mapping[str, str]) -> list[Mistake]:
    """List the options whose values are not what a constructor's annotations say, each at its place in the config."""
    found, hints = [], _hints(make)
    for name, value in options.items():
        try:
            TypeAdapter(hints.get(name, Any)).validate_python(value, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            expected = _EXPECTED.get(first["type"], first["msg"].removeprefix("Input should be "))
            near = did_you_mean(str(value), get_args(hints[name])) if first["type"] == "literal_error" else ""
            found.append(Mistake(places[name], f"got {json.dumps(value, default=str)}, expected {expected}.{near}"))
    return found


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    """Return what a constructor's annotations say of plain values; one's own class need not have any."""
    hints: dict[str, Any] = {}
    for source in (make.__init__, make):  # one that a dataclass has made cannot say them, and its fields can
        with suppress(NameError, TypeError):
            hints = hints or get_type_hints(source, include_extras=True)
    plain = (bool, int, float, str)
    return {
        name: hint
        for name, hint in hints.items()
        if hint in plain or get_origin(hint) is Literal or _first(hint) in plain
    }


def _first(hint: Any) -> Any:
    """Return the first type inside another; none inside a tuple, which no config has, a list is made into it."""
    return None if get_origin(hint) is tuple else next(iter(get_args(hint)), None)


def _trial(train: Train, layout: Layout, size: int, where: str) -> list[Mistake]:
    """Build the networks, and ask them, without computing anything, for `size` values to learn."""
    given = {"layout": layout, "families": ("normal",), "varies": (True,) * size}
    options, keys = network_options(train), jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))

    def ask(keys: Any) -> Any:
        networks = build_networks(train.architecture, options, (1, size), keys, train.dtype, given)
        if isinstance(networks, ClosedForm):
            return jnp.zeros((1, size))  # which answers once it is fitted
        return eqx.filter_vmap(lambda network: network(jnp.zeros(1)), axis_size=1)(networks)

    try:
        answer = eqx.filter_eval_shape(ask, keys)
    except (ValueError, TypeError) as error:
        return [Mistake(where, str(error))]
    if not hasattr(answer, "shape") or answer.shape != (1, size):
        got = f"an array of shape {answer.shape[1:]}" if hasattr(answer, "shape") else type(answer).__name__
        what = f"{train.architecture.rpartition('/')[2]} gives {got} where out_size = {size}, expected shape ({size},)"
        return [Mistake("train.architecture", what + ("; is a `return` missing?" if answer is None else ""))]
    return []


def layout_mistakes(config: Problem, where: str, layout: Layout, stochastic: bool) -> list[Mistake]:
    """List what keeps an architecture that asks for the outputs' layout from learning them."""
    if "layout" not in inspect.signature(resolve(config.train.architecture, ARCHITECTURES)).parameters:
        return []
    learned = layout.size - len(config.dataset.pca)  # or fewer: of an output with components fewer than its values
    sizes = [learned, *([num_entries(layout.size)] if stochastic else [])]
    tried = (_trial(config.train, layout, size, where) for size in sizes)
    return next((found for found in tried if found), [])
