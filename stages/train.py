"""Stage 3: a training set becomes an emulator, an ensemble of networks trained side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from stages import plots
from stages.artifacts import TEST, Dataset, Layout
from stages.emulator import Emulator, assemble, build_networks, make_header, predict, save_emulator, unexplained
from stages.errors import StageError
from stages.parameters import Space
from stages.progress import Progress
from stages.scatter import MOST_OUTPUTS, Scatter, cross_validated, make_scatter, negative_log_likelihood, num_entries
from stages.settings import Train, TrainConfig
from stages.transforms import TRANSFORMS

Loss = Callable[[PyTree, "Rows"], Float[Array, ""]]
_CHUNK = 100  # optimizer steps in one compiled call, between two looks at the validation rows


class Rows(NamedTuple):
    """Network inputs and scaled outputs."""

    x: Float[Array, "n size"]
    y: Float[Array, "n outputs"]

    def pick(self, at: Any) -> Rows:
        """Return some of the rows."""
        return Rows(self.x[at], self.y[at])


class Scaling(NamedTuple):
    """Centre and whitening of the inputs, location and scale of the outputs.

    After a round of refinement the rows fill a sliver of the whitened prior: the network must see it at unit size.
    """

    center: Float[np.ndarray, " size"]
    whitening: Float[np.ndarray, "size size"]
    location: Float[np.ndarray, " outputs"]
    scale: Float[np.ndarray, " outputs"]


def run(config: TrainConfig, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Progress) -> dict[str, Any]:
    """Train an ensemble, judge it on rows that it has not seen, and save it."""
    dataset, settings = Dataset.load(inputs["dataset"][0]), config.train
    z, y, fold = dataset.arrays()
    seen = fold != TEST
    scaling = _scaling(dataset.header, z[seen])
    x = (z - scaling.center) @ scaling.whitening.T
    scaled = (y - scaling.location) / np.where(scaling.scale > 0, scaling.scale, 1.0)
    rows = Rows(jnp.asarray(x[seen], settings.dtype), jnp.asarray(scaled[seen], settings.dtype))
    held_out = 1 + np.arange(settings.ensemble_size) % (int(fold.max()))
    begun = time.perf_counter()
    networks, history = fit(settings, rows, fold[seen], held_out, progress)
    random, second = None, None
    if dataset.header.get("stochastic"):
        networks, random, second = fit_scatter(settings, networks, rows, fold[seen], held_out, scaling.scale, progress)
    seconds = time.perf_counter() - begun
    emulator = _assemble(
        config, dataset.header | {"seconds": seconds}, networks, random, scaling, z[seen], y[seen], fold[seen], held_out
    )
    save_emulator(emulator, folder)
    _write_history(folder / "history.csv", history)
    return _summary(folder, emulator, history, second, z[~seen], y[~seen])


def _scaling(header: dict[str, Any], z: Float[np.ndarray, "n size"]) -> Scaling:
    location, scale = (np.asarray(header["scaling"][key]) for key in ("location", "scale"))
    covariance = np.atleast_2d(np.cov(z.T)) + 1e-12 * np.eye(z.shape[1])
    return Scaling(z.mean(axis=0), np.linalg.inv(np.linalg.cholesky(covariance)), location, scale)


class History(NamedTuple):
    """Losses (mean squared error in units of each output's spread) of every member, and where each was best."""

    steps: Float[np.ndarray, " looks"]
    train: Float[np.ndarray, "looks members"]
    validation: Float[np.ndarray, "looks members"]
    best: Float[np.ndarray, " members"]


def loss(network: PyTree, rows: Rows) -> Float[Array, ""]:
    """Return the mean squared error in units of each output's spread."""
    return jnp.mean((jax.vmap(network)(rows.x) - rows.y) ** 2)


def fit(
    settings: Train, rows: Rows, fold: Int[np.ndarray, " n"], held_out: Int[np.ndarray, " members"], progress: Progress
) -> tuple[PyTree, History]:
    """Train every member side by side, each from its own start and without its own fold; keep each one's best."""
    keys = jax.random.split(jax.random.key(settings.seed), (settings.ensemble_size, 2))
    sizes = (rows.x.shape[1], rows.y.shape[1])
    networks = build_networks(settings.architecture, settings.options, sizes, keys[:, 0], settings.dtype)
    picks = _Picks(_stack(fold != m for m in held_out), _stack(fold == m for m in held_out), keys[:, 1])
    return _descend(settings, networks, loss, rows, picks, progress, "train")


def fit_scatter(
    settings: Train,
    networks: PyTree,
    rows: Rows,
    fold: Int[np.ndarray, " n"],
    held_out: Int[np.ndarray, " members"],
    scale: Float[np.ndarray, " outputs"],
    progress: Progress,
) -> tuple[PyTree, Scatter, History]:
    """Train a second ensemble for the scatter, and the first on with it, by the likelihood of the rows.

    The first was trained by squared error, which counts the outputs' scatter as independent and the same everywhere;
    the likelihood weighs each row by the scatter there.
    """
    active = np.flatnonzero(scale > 0)
    residuals = _residuals(networks, rows, fold, held_out)[:, active]
    if len(active) > MOST_OUTPUTS or len(residuals) < 10 * len(active):
        raise StageError(
            f"the simulator is random: got {len(residuals)} rows for the covariance of {len(active)} values; it takes "
            f"10 rows for each, and at most {MOST_OUTPUTS} values. Raise simulate.num_simulations, or observe less"
        )
    covariance = np.atleast_2d(np.cov(residuals.T))
    base = np.linalg.cholesky(covariance + 1e-9 * np.diag(np.diag(covariance)))
    whiten = jnp.asarray(np.linalg.inv(base), settings.dtype)

    def likelihood_loss(pair: tuple[PyTree, PyTree], rows: Rows) -> Float[Array, ""]:
        q = (rows.y - jax.vmap(pair[0])(rows.x))[:, active] @ whiten.T
        return jnp.mean(jax.vmap(negative_log_likelihood)(jax.vmap(pair[1])(rows.x), q))

    keys = jax.random.split(jax.random.fold_in(jax.random.key(settings.seed), 1), (settings.ensemble_size, 2))
    sizes = (rows.x.shape[1], num_entries(len(active)))
    others = build_networks(settings.architecture, settings.options, sizes, keys[:, 0], settings.dtype)
    picks = _Picks(_stack(fold != m for m in held_out), _stack(fold == m for m in held_out), keys[:, 1])
    (networks, others), history = _descend(
        settings, (networks, others), likelihood_loss, rows, picks, progress, "scatter"
    )
    embedded = np.zeros((len(scale), len(active)))
    embedded[active] = scale[active, None] * base
    return networks, make_scatter(others, embedded, 0), history


def _residuals(
    networks: PyTree, rows: Rows, fold: Int[np.ndarray, " n"], held_out: Int[np.ndarray, " members"]
) -> Float[np.ndarray, "used outputs"]:
    """Return the scaled residuals of each fold's rows, by the first member that did not see them."""
    evaluate = eqx.filter_jit(lambda network, x: jax.vmap(network)(x))
    parts = []
    for m, number in enumerate(held_out[: len(set(held_out.tolist()))]):
        network = jax.tree.map(lambda leaf, m=m: leaf[m] if eqx.is_array(leaf) else leaf, networks)
        own = rows.pick(np.flatnonzero(fold == number))
        parts.append(np.asarray(own.y - evaluate(network, own.x), float))
    return np.concatenate(parts)


def _descend(
    settings: Train, networks: PyTree, loss: Loss, rows: Rows, picks: _Picks, progress: Progress, name: str
) -> tuple[PyTree, History]:
    """Bring a loss down for every member side by side, and keep each one's best."""
    weights, static = eqx.partition(networks, eqx.is_inexact_array)
    trace = _Trace(weights, settings.patience)
    with progress.task(name, total=settings.steps + settings.finish_steps, unit="steps") as task:
        for phase in _phases(settings, static, loss, rows, picks):
            weights = trace.best if trace.looks else weights  # a later phase goes on from the best so far
            state, at = phase.start(weights), 0
            trace.begin_phase()
            while at < phase.steps and not trace.is_stale():
                chunk = min(_CHUNK, phase.steps - at)
                weights, state, train_loss, validation_loss = phase.advance(weights, state, at, chunk)
                at += chunk
                trace.look(weights, chunk, np.asarray(train_loss), np.asarray(validation_loss))
                task.advance(chunk, train=float(np.median(train_loss)), validation=float(np.median(validation_loss)))
            task.advance(phase.steps - at)
    return eqx.combine(trace.best, static), trace.history()


class _Picks(NamedTuple):
    """What is each member's own: the rows that it trains on, those that stop it, and its key."""

    train: Int[Array, "members n"]
    validation: Int[Array, "members m"]
    key: PRNGKeyArray


def _stack(masks: Iterable[Bool[np.ndarray, " n"]]) -> Int[Array, "members n"]:
    """Turn masks into rows of indices, the shorter ones filled up from their own beginning."""
    picked = [np.flatnonzero(mask) for mask in masks]
    longest = max(map(len, picked))
    return jnp.asarray(np.stack([np.resize(each, longest) for each in picked]))


class _Phase(NamedTuple):
    steps: int
    start: Callable[[PyTree], PyTree]
    advance: Callable[[PyTree, PyTree, int, int], tuple[PyTree, PyTree, Array, Array]]


def _phases(settings: Train, static: PyTree, loss: Loss, rows: Rows, picks: _Picks) -> list[_Phase]:
    def loss_at(weights: PyTree, at: Int[Array, " n"]) -> Float[Array, ""]:
        return loss(eqx.combine(weights, static), rows.pick(at))

    def phase(steps: int, optimizer: Any, step: Callable[..., Any]) -> _Phase:
        def advance(weights: PyTree, state: PyTree, own: _Picks, at: Array, chunk: int) -> Any:
            def body(carry: tuple[PyTree, PyTree], i: Array) -> Any:
                *carry, value = step(*carry, own.train, jax.random.fold_in(own.key, i))
                return tuple(carry), value

            (weights, state), losses = jax.lax.scan(body, (weights, state), at + jnp.arange(chunk))
            return weights, state, losses.mean(), loss_at(weights, own.validation)

        compiled = jax.jit(jax.vmap(advance, in_axes=(0, 0, 0, None, None)), static_argnums=4)
        return _Phase(steps, jax.vmap(optimizer.init), lambda w, s, at, n: compiled(w, s, picks, jnp.asarray(at), n))

    first_order, newton = _optimizer(settings), optax.lbfgs(memory_size=20)
    size = min(settings.batch_size, picks.train.shape[1])

    def batch_step(weights: PyTree, state: PyTree, train: Array, key: PRNGKeyArray) -> tuple[PyTree, PyTree, Array]:
        at = train[jax.random.randint(key, (size,), 0, len(train))] if size < len(train) else train
        value, slope = jax.value_and_grad(loss_at)(weights, at)
        updates, state = first_order.update(slope, state, weights)
        return optax.apply_updates(weights, updates), state, value

    def newton_step(weights: PyTree, state: PyTree, train: Array, key: PRNGKeyArray) -> tuple[PyTree, PyTree, Array]:
        value, slope = optax.value_and_grad_from_state(lambda w: loss_at(w, train))(weights, state=state)
        updates, state = newton.update(
            slope, state, weights, value=value, grad=slope, value_fn=lambda w: loss_at(w, train)
        )
        return optax.apply_updates(weights, updates), state, value

    phases = [phase(settings.steps, first_order, batch_step)]
    return phases + ([phase(settings.finish_steps, newton, newton_step)] if settings.finish_steps else [])


def _optimizer(settings: Train) -> optax.GradientTransformation:
    rate: Any = {
        "constant": lambda: settings.learning_rate,
        "cosine": lambda: optax.warmup_cosine_decay_schedule(
            0.0, settings.learning_rate, max(settings.steps // 50, 1), settings.steps
        ),
        "exponential": lambda: optax.exponential_decay(settings.learning_rate, max(settings.steps // 7, 1), 0.5),
    }[settings.schedule]()
    make = getattr(optax, settings.optimizer, None)
    if make is None:
        raise StageError(f'train.optimizer: optax has no "{settings.optimizer}"; try adam, adamw, nadam or lion')
    return make(rate, **settings.optimizer_options)


class _Trace:
    """Each member's best weights so far, and how long ago any of them got better."""

    def __init__(self, weights: PyTree, patience: int) -> None:
        members = len(jax.tree.leaves(weights)[0])
        self.best, self.patience, self.step, self.since = weights, patience, 0, 0
        self.lowest, self.best_step = np.full(members, np.inf), np.zeros(members)
        self.looks: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.finishing = False

    def begin_phase(self) -> None:
        # A finish that runs away is no harm: the best weights of the phase before it are kept.
        self.since, self.finishing = 0, bool(self.looks)

    def is_stale(self) -> bool:
        return self.since >= self.patience

    def look(self, weights: PyTree, steps: int, train: np.ndarray, validation: np.ndarray) -> None:
        self.step += steps
        if not np.isfinite(train).all() and not (self.finishing and np.isfinite(self.lowest).all()):
            raise StageError(
                f"the training loss was not finite at step {self.step}. Try a smaller train.learning_rate, or a "
                "dataset.transform (log) for outputs that span decades"
            )
        better = validation < self.lowest
        self.since = 0 if better.any() else self.since + steps
        self.lowest = np.where(better, validation, self.lowest)
        self.best_step = np.where(better, self.step, self.best_step)
        self.best = _where(jnp.asarray(better), weights, self.best)
        self.looks.append((self.step, train, validation))

    def history(self) -> History:
        steps, train, validation = (np.asarray(part) for part in zip(*self.looks, strict=True))
        return History(steps, train, validation, self.best_step)


def _where(better: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)


def _assemble(
    config: TrainConfig,
    header: dict[str, Any],
    networks: PyTree,
    random: Scatter | None,
    scaling: Scaling,
    z: Float[np.ndarray, "n size"],
    y: Float[np.ndarray, "n outputs"],
    fold: Int[np.ndarray, " n"],
    held_out: Int[np.ndarray, " members"],
) -> Emulator:
    settings = config.train
    stored = make_header(
        space=Space.from_json(header["space"]),
        layout=Layout.from_json(header["layout"]),
        transform=header["transform"],
        floor=header["floor"],
        architecture=settings.architecture,
        options=settings.options,
        dtype=settings.dtype,
        num_members=settings.ensemble_size,
        seconds=header["seconds"],
        num_rows=int(np.isin(fold, held_out).sum()),
    )
    if random is not None:
        stored["num_scattered"] = random.base.shape[1]
    rows, outputs = stored["num_rows"], y.shape[1]
    blank: dict[str, Any] = {"training_z": np.zeros((rows, z.shape[1])), "training_y": np.zeros((rows, outputs))}
    blank |= {"residuals": np.zeros((rows, outputs)), "base_variance": np.zeros(outputs)}
    scales: dict[str, Any] = scaling._asdict()
    members = predict(assemble(stored, networks, **scales, **blank), z)
    out = np.stack([fold == m for m in held_out], axis=1)[:, :, None]  # who did not see which row
    used = out.any(axis=(1, 2))
    residuals = ((y[:, None] - members) * out).sum(axis=1)[used] / out.sum(axis=1)[used]
    even = np.full(len(residuals), 1.0 / len(residuals))
    base_variance = even @ residuals**2 * unexplained(residuals, members[used], even)
    if random is not None:
        base_variance = np.zeros(outputs)  # it is in the scatter's directions instead
        x = ((z - scaling.center) @ scaling.whitening.T)[used].astype(settings.dtype)
        random = cross_validated(random, x, out[used].argmax(axis=1)[:, 0], residuals, members[used], rows)
    return assemble(
        stored,
        networks,
        random=random,
        **scales,
        base_variance=base_variance,
        training_z=z[used],
        training_y=y[used],
        residuals=residuals,
    )


def _write_history(file: Path, history: History) -> None:
    members = range(history.train.shape[1])
    names = ["step", *[f"train_{i}" for i in members], *[f"validation_{i}" for i in members]]
    table = np.column_stack([history.steps, history.train, history.validation])
    np.savetxt(file, table, delimiter=",", header=",".join(names), comments="", fmt="%.8g")


def _summary(
    folder: Path, emulator: Emulator, history: History, second: History | None, z: np.ndarray, y: np.ndarray
) -> dict[str, Any]:
    z, y = z[:2000], y[:2000]
    members = predict(emulator, z)
    mean = members.mean(axis=1)
    variance = np.asarray(jax.vmap(emulator.variance)(jnp.asarray(members)))
    scatter = np.zeros_like(variance)
    if emulator.random is not None:
        factors = eqx.filter_jit(lambda z: jax.lax.map(emulator.scatter_factor, z, batch_size=256))(jnp.asarray(z))
        scatter = np.asarray(((1.0 + emulator.random.excess)[:, None] * factors**2).sum(axis=1))
    sd = np.sqrt(variance + scatter)
    truth, emulated = (_flat(emulator, each) for each in (y, mean))
    plots.losses(folder / "losses.png", history.steps, history.train, history.validation, history.best)
    pictures = ["losses.png", "held_out.png"]
    if second is not None:
        plots.losses(folder / "losses_scatter.png", second.steps, second.train, second.validation, second.best)
        pictures.insert(1, "losses_scatter.png")
    plots.held_out(folder / "held_out.png", emulator.layout, truth, emulated, _flat_sd(emulator, mean, sd))
    scattered = _flat_sd(emulator, mean, np.sqrt(scatter))
    table = []
    for name, at in emulator.layout.slices.items():
        error, scale = emulated[:, at] - truth[:, at], np.asarray(emulator.scale[at])
        table.append(
            {
                "output": name,
                "unit": emulator.layout.outputs[name].unit,
                "error_rms": float(np.sqrt(np.mean(error**2))),
                "error_median": float(np.median(np.abs(error))),
                **({"scatter_predicted": float(np.sqrt(np.mean(scattered[:, at] ** 2)))} if second else {}),
                "spread": float(truth[:, at].std(axis=0).mean()),
                # In the transformed scale, where the network learns and the error is about the same everywhere.
                "unexplained_variance": float(np.mean((mean - y)[:, at] ** 2) / max(np.mean(scale**2), 1e-300)),
            }
        )
    weights = jax.tree.leaves(eqx.filter(emulator.networks, eqx.is_inexact_array))
    facts = {
        "architecture": emulator.header["architecture"],
        "members": members.shape[1],
        "weights": sum(leaf[0].size for leaf in weights),
        "steps": int(history.steps[-1]),
        "validation_loss": float(np.median(history.validation.min(axis=0))),
    }
    title = "held-out error" + (", of which the simulator's own scatter is a part" if second else "")
    return {"facts": facts, "tables": {title: table}, "pictures": pictures}


def _flat(emulator: Emulator, y: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, "n outputs"]:
    natural = emulator.natural(jnp.asarray(y))
    return np.concatenate([np.asarray(value).reshape(len(y), -1) for value in natural.values()], axis=1)


def _flat_sd(emulator: Emulator, mean: np.ndarray, sd: np.ndarray) -> Float[np.ndarray, "n outputs"]:
    slopes = [
        TRANSFORMS[emulator.transform[name]].slope(jnp.asarray(mean[:, at]))
        for name, at in emulator.layout.slices.items()
    ]
    return sd * np.abs(np.concatenate([np.asarray(slope) for slope in slopes], axis=1))
