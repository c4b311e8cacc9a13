"""What an architecture is: a network from whitened parameters to scaled outputs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, Self, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

Activation = Literal["learned", "silu", "gelu", "softplus", "tanh"]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "softplus": jax.nn.softplus,
    "tanh": jax.nn.tanh,
}


# What a constructor is handed by the training. All else that it takes is an option of `train.options`.
PROVIDED = frozenset({"in_size", "out_size", "key", "layout", "families", "varies"})


class Architecture(eqx.Module):
    """A network, which maps one whitened point to the scaled outputs; subclass it for one of your own.

    `train.architecture = "my_net.py:MyNet"` names it in a config. It is built once for each member of an ensemble, with
    a key of its own, and trained by descent. Inputs are of shape (in_size,), of mean about 0 and variance about 1;
    outputs of shape (out_size,), scaled likewise: all outputs of the simulator in one flat vector, or their principal
    components. Everything after `key` in the constructor is an option of `train.options`.

    A constructor that takes `layout` is given the outputs' `Layout`; one that takes `families`, how the training
    rows lie along each input: "uniform" or "normal", of mean about 0 and variance about 1; one that takes `varies`,
    which of the scaled outputs are not the same in all rows.

    Example:
        >>> import equinox as eqx
        >>> import jax
        >>> import simfer
        >>> class OneLayer(simfer.Architecture):
        ...     first: eqx.nn.Linear
        ...     last: eqx.nn.Linear
        ...
        ...     def __init__(self, in_size, out_size, *, key, width=64):
        ...         one, other = jax.random.split(key)
        ...         self.first = eqx.nn.Linear(in_size, width, key=one)
        ...         self.last = eqx.nn.Linear(width, out_size, key=other)
        ...
        ...     def __call__(self, z):
        ...         return self.last(jax.nn.silu(self.first(z)))
        >>> OneLayer(3, 5, key=jax.random.key(0))(jax.numpy.zeros(3)).shape
        (5,)
    """

    @abc.abstractmethod
    def __init__(self, in_size: int, out_size: int, *, key: PRNGKeyArray) -> None:
        """Build a network with random weights drawn from `key`."""

    @abc.abstractmethod
    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Evaluate it at one point."""


class Continuous(Architecture):
    """An architecture that knows its outputs' coordinates, so that `Emulator.between` can ask between saved ones.

    Its constructor takes the outputs' `layout`. Called as any `Architecture` it gives the outputs at their saved
    coordinates; `between` gives them anywhere. A smooth function of the point and of the coordinates makes one, as
    `deeponet` is.

    Example:
        >>> from types import SimpleNamespace
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import simfer
        >>> class Waves(simfer.Continuous):  # of one output, along one dimension
        ...     name: str
        ...     saved: jax.Array
        ...     frequencies: jax.Array
        ...
        ...     def __init__(self, in_size, out_size, *, key, layout):
        ...         (self.name, output), = layout.outputs.items()
        ...         self.saved = jnp.asarray(output.coords[output.dims[0]])[:, None]
        ...         self.frequencies = jax.random.normal(key, (in_size,))
        ...
        ...     def __call__(self, z):
        ...         return self.between(z, {self.name: self.saved})[self.name]
        ...
        ...     def between(self, z, points):
        ...         return {name: jnp.sin(at @ self.frequencies[None] @ z) for name, at in points.items()}
        >>> output = simfer.Output(("time",), {"time": jnp.linspace(0.0, 1.0, 5)})
        >>> layout = SimpleNamespace(outputs={"y": output})  # as the training hands one over
        >>> waves = Waves(3, 5, key=jax.random.key(0), layout=layout)
        >>> waves.between(jnp.ones(3), {"y": jnp.asarray([[0.1], [0.2]])})["y"].shape
        (2,)
    """

    @abc.abstractmethod
    def between(
        self, z: Float[Array, " in_size"], points: Mapping[str, Float[Array, "n dims"]]
    ) -> dict[str, Float[Array, " n"]]:
        """Evaluate it at one point, each output at coordinates of its own choice.

        Args:
            z: one whitened point.
            points: for each output by name, n coordinates along each of its dimensions, in the dimensions' order and
                as they were saved.

        Returns:
            Each output by name at those coordinates, as scaled as the outputs of a call are.
        """


class ClosedForm(Architecture):
    """An architecture that is fitted at once instead of by descent, and that gives its own error; in float64.

    It is fitted to all rows, and again without each fold for its cross-validated error. A field `in_size` holds the
    number of inputs; `limits` names options that bound what is tried, which a search leaves alone. Where rows carry
    derivatives (`simulate.derivatives`), one that says `learns_derivatives = True` is handed those of the scaled
    outputs by the whitened inputs as a third argument of `fit`.

    Example:
        >>> import equinox as eqx
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import simfer
        >>> class Plane(simfer.ClosedForm):
        ...     in_size: int = eqx.field(static=True)
        ...     weights: jax.Array
        ...     rms: jax.Array
        ...
        ...     def __init__(self, in_size, out_size, *, key):
        ...         self.in_size = in_size
        ...         self.weights, self.rms = jnp.zeros((1 + in_size, out_size)), jnp.ones(out_size)
        ...
        ...     def __call__(self, z):
        ...         return self.weights[0] + z @ self.weights[1:]
        ...
        ...     def fit(self, x, y):
        ...         weights, *_ = np.linalg.lstsq(np.column_stack([np.ones(len(x)), x]), y)
        ...         rms = np.sqrt(np.mean((y - weights[0] - x @ weights[1:]) ** 2, axis=0))
        ...         where = lambda plane: (plane.weights, plane.rms)
        ...         return eqx.tree_at(where, self, (jnp.asarray(weights), jnp.asarray(rms)))
        ...
        ...     def error_factor(self, z):
        ...         return self.rms[None]  # as if all outputs were wrong together
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> plane = Plane(2, 1, key=jax.random.key(0)).fit(x, 1.0 + x[:, :1] - 2.0 * x[:, 1:])
        >>> plane(jnp.asarray([3.0, 1.0])).round(6).tolist()
        [2.0]
    """

    limits: ClassVar[tuple[str, ...]] = ()  # options that bound what is tried: of no use in a search
    learns_derivatives: ClassVar[bool] = False  # whether `fit` takes them, of shape (n, in_size, out_size), third
    in_size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def fit(self, x: Float[np.ndarray, "n in_size"], y: Float[np.ndarray, "n out_size"]) -> Self:
        """Return this fitted to rows, and to them alone; hyperparameters may start from what they are.

        Args:
            x: whitened points.
            y: the scaled outputs of each.

        Returns:
            A new model. This one stays as it is.
        """

    @abc.abstractmethod
    def error_factor(self, z: Float[Array, " in_size"]) -> Float[Array, "factors out_size"]:
        """Return F with F^T F the covariance of the error of what is predicted at one point.

        Args:
            z: one whitened point.

        Returns:
            As many rows as it takes; none where nothing is wrong.
        """

    def sigma_points(self, z: Float[Array, " in_size"]) -> Float[Array, "points out_size"]:
        """Stand in for an ensemble: points whose mean and covariance are the prediction's (Julier & Uhlmann 1997)."""
        mean, factor = self(z), self.error_factor(z)
        if not len(factor):
            return mean[None]
        # 2 f points have 2 f - 1 in the denominator of their covariance.
        steps = jnp.sqrt(len(factor) - 0.5) * factor
        return mean + jnp.concatenate([steps, -steps])


def swish(x: Float[Array, " width"], beta: Float[Array, " width"], gamma: Float[Array, " width"]) -> Array:
    """Evaluate [gamma + (1 - gamma) / (1 + exp(-beta x))] x (Alsing et al. 2020; Spurio Mancini et al. 2022, eq. 5)."""
    return (gamma + (1.0 - gamma) * jax.nn.sigmoid(beta * x)) * x


class Learned(eqx.Module):
    """An activation whose shape every unit learns for itself, from a straight line to a smooth step.

    All start as x / (1 + exp(-x / 2)), softer than SiLU's x / (1 + exp(-x)): the unexplained variance was 0.6 of that
    from SiLU on Ishigami, 0.7 on sir and lynx_hare, 0.9 on the OTL circuit and 1.2 on lotka_volterra (one design).
    """

    beta: Float[Array, " width"]
    gamma: Float[Array, " width"]

    def __init__(self, width: int) -> None:
        self.beta, self.gamma = jnp.full(width, 0.5), jnp.zeros(width)

    def __call__(self, x: Float[Array, " width"]) -> Float[Array, " width"]:
        """Evaluate it for all units of a layer."""
        return swish(x, self.beta, self.gamma)


class Fixed(eqx.Module):
    """An activation that is what its name says."""

    function: Callable[[Array], Array] = eqx.field(static=True)

    def __call__(self, x: Float[Array, " width"]) -> Float[Array, " width"]:
        """Evaluate it for all units of a layer."""
        return self.function(x)


def activations(name: str, width: int, number: int) -> list[Learned | Fixed]:
    """Return smooth activations for layers by name: NUTS follows gradients, and a kinked emulator has poor ones."""
    if name == "learned":
        return [Learned(width) for _ in range(number)]
    if name not in ACTIVATIONS:
        raise ValueError(f'got activation "{name}", expected one of {", ".join(get_args(Activation))}')
    return [Fixed(ACTIVATIONS[name]) for _ in range(number)]
