"""Functions are compiled once, whatever emulator they close over, and whatever the number of rows they are asked at."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from simfer.stages.cores import num_cores
from simfer.stages.devices import num_programs, platform, running
from simfer.stages.threads import map_in_threads

Row = Any  # a tree of arrays
Rows = Any  # the same, with a leading axis
Effort = Literal["least", "little", "usual", "most"]
# What XLA need not take its time for, by the kind of device. By its newer emitters of fused loops it takes twice as
# long as by those before, by which samplers and predictions run as fast, and training a sixth slower; and it cuts a
# program into 32 parts for LLVM, on two cores too. For a GPU it tries many ways to multiply matrices: 45 of the 57 s
# that a training of small networks was compiled, and of no use.
_SPARED: dict[str, dict[str, Any]] = {
    "cpu": {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": min(num_cores(), 32)},
    "gpu": {"xla_gpu_autotune_level": 0},
}
_MOST_PROGRAMS = 128
_programs: OrderedDict[str, Any] = OrderedDict()  # what this process compiled, by what it was compiled from


def in_batches(
    function: Callable[[Row], Any], rows: Rows, size: int = 256, together: bool = True, least: int = 64
) -> Any:
    """Evaluate a function at every row.

    The rows are cut into batches of one size, the last of them filled up, and the arrays that the function closes over
    (an emulator's weights) are arguments of what is compiled. So what was compiled for one number of rows and one
    emulator is what any other needs: this process has it, and XLA's cache on disk.

    Args:
        function: Takes one row, returns a tree of arrays.
        rows: A tree of arrays with a leading axis, of equal length.
        size: Rows in a batch; fewer rows are filled up to the next power of two.
        together: Whether a batch is evaluated side by side or row by row. Random numbers made side by side take XLA
            seconds to compile.
        least: Rows that fewer are filled up to in any case.

    Returns:
        What the function returns, as NumPy arrays with the rows' leading axis.
    """
    if any(map(_is_key, jax.tree.leaves(rows))):
        function, rows = _without_keys(function, rows)
    rows = jax.tree.map(np.asarray, rows)
    count = len(jax.tree.leaves(rows)[0])
    if count == 0:
        first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), rows)
        return jax.tree.map(lambda out: np.zeros((0, *out.shape), out.dtype), jax.eval_shape(function, first))
    size = min(size, max(least, 1 << (count - 1).bit_length()))
    evaluate = _batched(function, cut_batch(rows, 0, size), together)
    starts = range(0, count, size)
    parts = map_in_threads(lambda start: evaluate(cut_batch(rows, start, size)), starts, num_programs())
    return jax.tree.map(lambda *leaves: np.concatenate([*map(np.asarray, leaves)])[:count], *parts)


def split_keys(seed: int, count: int) -> UInt32[np.ndarray, "count 2"]:
    """Return the data of `jax.random.split(jax.random.key(seed), count)`, which few programs make for all counts."""
    # A key depends on its place alone, not on how many there are.
    return np.asarray(_keys(seed, max(4096, 1 << (count - 1).bit_length())))[:count]


@partial(jax.jit, static_argnums=1)
def _keys(seed: Any, count: int) -> Any:
    return jax.random.key_data(jax.random.split(jax.random.key(seed), count))


def compiler_options(effort: Effort) -> dict[str, Any]:
    """Return what XLA is told of a program: how much of its time it may spend to spare the program's.

    Args:
        effort: `most` is for what runs for minutes, `little` for what runs seldom, `least` for what runs once.
    """
    level = {"least": "0", "little": "1"}.get(effort)
    options: dict[str, Any] = {"xla_backend_optimization_level": level} if level else {}
    kind = platform()
    return options | (_spared(kind) if (effort, kind) != ("most", "cpu") else {})


@cache
def _spared(kind: str) -> dict[str, Any]:
    """Return what spares XLA's time on a kind of device, if this jaxlib has it: such options come and go."""
    return {name: value for name, value in _SPARED.get(kind, {}).items() if _has(name, value)}


def _has(option: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile({option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def compiled(function: Callable[..., Any], *examples: Any, effort: Effort = "usual") -> Callable[..., Any]:
    """Compile a function of arrays, those that it closes over being arguments of what is compiled.

    Two emulators of one shape are then one program, which this process has after the first, and XLA's cache on disk.

    Args:
        function: Takes and returns trees of arrays.
        examples: Arguments of the shapes and types that it will be called with.
        effort: How much of XLA's time it is worth (see `compiler_options`).
    """
    traced, shape = jax.make_jaxpr(function, return_shape=True)(*examples)
    tree = jax.tree.structure(shape)

    def evaluate(constants: Any, leaves: Any) -> Any:
        return jax.core.eval_jaxpr(traced.jaxpr, constants, *leaves)

    evaluate.__name__ = getattr(function, "__name__", evaluate.__name__)  # as a profile shows it
    program = _program(evaluate, effort, traced.consts, jax.tree.leaves(examples))
    constants = jax.device_put(traced.consts)

    def call(*arguments: Any) -> Any:
        # What has yet to come, as a copy of NumPy's arrays, has a program run by a thread of XLA's instead of this one.
        given = jax.block_until_ready((constants, jax.device_put(jax.tree.leaves(arguments))))
        return jax.tree.unflatten(tree, _run(program, *given))

    return call


def _run(program: Callable[..., Any], *arguments: Any) -> Any:
    with running():
        done = program(*arguments)
        return jax.block_until_ready(done) if platform() == "cpu" else done


def _batched(function: Callable[[Row], Any], batch: Rows, together: bool) -> Callable[[Rows], Any]:
    """Return what evaluates a function at batches of one shape."""
    if isinstance(function, eqx.Module) and not jax.tree.leaves(function):
        return partial(_run, partial(_evaluate, function, together))  # only its equal has its program: no need to trace

    def of_rows(rows: Rows) -> Any:
        return jax.vmap(function)(rows) if together else jax.lax.map(function, rows)

    of_rows.__name__ = f"{getattr(function, '__name__', 'one')}_of_rows"
    # Row by row nothing is to be had of wide registers.
    return compiled(of_rows, batch, effort="usual" if together else "little")


@eqx.filter_jit
def _evaluate(function: Callable[[Row], Any], together: bool, rows: Rows) -> Any:
    return jax.vmap(function)(rows) if together else jax.lax.map(function, rows)


def _program(function: Callable[..., Any], effort: Effort, *examples: Any) -> Callable[..., Any]:
    """Compile a function of arrays, or return what was compiled from the very same operations."""
    lowered = jax.jit(function).lower(*examples)
    text = lowered.as_text()
    options = compiler_options(effort)
    if "callback" in text:  # which names a function of Python by its place alone
        return lowered.compile(options)
    given = [str(jax.typeof(leaf)) for leaf in jax.tree.leaves(examples)]  # of which it may use but some
    name = hashlib.sha256(f"{platform()} {effort} {given} {text}".encode()).hexdigest()
    if name not in _programs:
        _programs[name] = lowered.compile(options)
        if len(_programs) > _MOST_PROGRAMS:
            _programs.popitem(last=False)
    _programs.move_to_end(name)
    return _programs[name]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _without_keys(function: Callable[[Row], Any], rows: Rows) -> tuple[Callable[[Row], Any], Rows]:
    """Have rows of what random keys are made of, which NumPy holds, and the keys made of that in the function."""
    is_key = jax.tree.map(_is_key, rows)

    def with_keys(row: Row) -> Any:
        return function(jax.tree.map(lambda key, leaf: jax.random.wrap_key_data(leaf) if key else leaf, is_key, row))

    return with_keys, jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, rows)


def cut_batch(rows: Rows, start: int, size: int) -> Rows:
    """Cut `size` rows out, filled up with the last of them."""

    def cut(leaf: np.ndarray) -> np.ndarray:
        part = leaf[start : start + size]
        return np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])

    return jax.tree.map(cut, rows)
