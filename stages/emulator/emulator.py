"""The emulator: whiten the parameters, evaluate an ensemble of networks, undo scaling and transform, know the error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from simfer.stages.batches import in_batches
from simfer.stages.emulator import between as curves
from simfer.stages.emulator import description
from simfer.stages.emulator.architectures.base import ClosedForm, Continuous
from simfer.stages.emulator.domain import Domain
from simfer.stages.emulator.flow import Flow
from simfer.stages.emulator.header import Header
from simfer.stages.emulator.labels import ERROR, INSIDE, SCATTER, labelled
from simfer.stages.emulator.scatter import Scatter
from simfer.stages.errors import SimferError
from simfer.stages.model import pca as basis
from simfer.stages.model.outputs import Layout
from simfer.stages.model.projection import Components
from simfer.stages.model.space import Space
from simfer.stages.model.transforms import TRANSFORMS
from simfer.stages.model.vectors import spread
from simfer.stages.settings import Transform

Outside = Literal["warn", "error", "nan", "ignore"]
OUTSIDE: tuple[Outside, ...] = get_args(Outside)
_SAME = 1e-6  # relative: what was fixed in float64 may come back in float32
_BEYOND = "lies outside of the domain that the emulator was trained in; neither prediction nor error is to be relied on"


class OutsideDomain(UserWarning):
    """The warning of an emulator that is asked at a point outside of the domain that it was trained in.

    Neither the prediction nor its error is to be relied on there. An emulator loaded with `outside = "warn"`, the
    default of `load_emulator`, gives it; `warnings` turns it into an exception, as any other:

    Example:
        >>> import warnings
        >>> import simfer
        >>> emulator = simfer.load_emulator("emulator")
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", simfer.OutsideDomain)
        ...     try:
        ...         prediction = emulator({"alpha": 90.0, "beta": 0.11, "delta": 0.12})
        ...     except simfer.OutsideDomain as warning:
        ...         print(str(warning)[:13])
        alpha = 90, b
    """


class CrossValidation(NamedTuple):
    """Training rows, and what the members that did not see a row had wrong there; all in the transformed scale."""

    y: Float[Array, "rows outputs"]
    residuals: Float[Array, "rows outputs"]
    spread: Float[Array, "rows outputs"]  # the members' variance about their mean


class Emulator(eqx.Module):
    """A trained ensemble of networks, or a model with an error of its own: named parameters in, named outputs out.

    `simfer.load_emulator`, or `emulator` of what `simfer.run` returns, gives one. Called with one set of parameters it
    predicts every output; it is differentiable, and `jax.jit`, `jax.vmap` and `jax.grad` take it as any function.
    Parameters are floats in their own units (`units`), each free one by name; those that were fixed in training may
    be left out. Outputs are float64 arrays in their own units, of their own shapes (`coordinates`).

    Everything between is flat: `y` is the vector of all outputs in the order of `layout`, in their transformed scale.

    `outside` says what comes of a prediction at a point that `inside` says no to: "ignore", nothing; "warn", an
    `OutsideDomain` warning, which needs values and so is silent within `jit`, `vmap` and `grad`; "error", an exception,
    there too; "nan", predictions that are no numbers, there too and at no cost.

    Example:
        >>> import jax
        >>> import simfer
        >>> emulator = simfer.load_emulator("emulator")
        >>> point = {"alpha": 0.6, "beta": 0.11, "delta": 0.12}
        >>> emulator(point)["prey"].shape
        (10,)
        >>> slope = jax.jacfwd(emulator)(point)["prey"]["alpha"]  # by one parameter, in its own unit
        >>> slope.shape
        (10,)
    """

    networks: PyTree  # every leaf with a leading axis over the members; or one ClosedForm
    center: Float[Array, " size"]
    whitening: Float[Array, "size size"]
    location: Float[Array, " outputs"]
    scale: Float[Array, " predicted"]  # of what a network predicts: values, or coefficients of components
    base_variance: Float[Array, " outputs"]  # of the error, beyond the members' spread
    training_z: Float[Array, "rows size"]
    training_y: Float[Array, "rows outputs"]
    residuals: Float[Array, "rows outputs"]  # of the members that did not see the row
    spread: Float[Array, "rows outputs"]  # the members' variance about their mean there
    domain: Domain
    header: Header = eqx.field(static=True)
    bases: dict[str, Float[Array, "components size"]]  # float64; of outputs that are predicted by components
    random: Scatter | None = None  # of a simulator that is
    outside: Outside = eqx.field(static=True, default="ignore")
    flow: Flow | None = None  # the density of the data, where a Gaussian is not their shape

    def __repr__(self) -> str:
        return description.line(self)

    def _repr_html_(self) -> str:
        return description.table(self)

    # `jax.jit(emulator)` and `jax.jit(emulator.error)` ask what they wrap for a hash, and arrays have none.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @property
    def space(self) -> Space:
        """The parameters, their priors, and the map to whitened points."""
        return self.header.space

    @property
    def layout(self) -> Layout:
        """How named outputs lie in the flat vector."""
        return self.header.layout

    @property
    def transform(self) -> Mapping[str, Transform]:
        """Each output's transform by name."""
        return self.header.transform

    @property
    def floor(self) -> float:
        """The smallest value that a logarithm or a root is taken of."""
        return self.header.floor

    @property
    def num_members(self) -> int:
        """The number of networks, or of the points that stand for them."""
        return self.header.num_members

    @property
    def cross_validation(self) -> CrossValidation:
        """What is known of the emulator's error from rows that it did not see."""
        return CrossValidation(self.training_y, self.residuals, self.spread)

    @property
    def units(self) -> dict[str, str]:
        """The unit of each free parameter, output and coordinate, "" where there is none."""
        parameters = {name: prior.unit for name, prior in self.space.priors.items()}
        outputs = {name: output.unit for name, output in self.layout.outputs.items()}
        return parameters | outputs | dict(self.header.coordinate_units)

    @property
    def coordinates(self) -> dict[str, dict[str, np.ndarray]]:
        """Each output's dimensions in their order, with the coordinates along them."""
        return {name: {dim: output.coords[dim] for dim in output.dims} for name, output in self.layout.outputs.items()}

    def members(self, z: Float[Array, " size"]) -> Float[Array, "members outputs"]:
        """Return what each member predicts at a whitened point, in the transformed scale."""
        return self.location + basis.expand(self._short(z), self.layout.slices, self.bases)

    def _short(self, z: Float[Array, " size"]) -> Float[Array, "members predicted"]:
        return self.scale * self._scaled(z).astype(self.location.dtype)

    def _scaled(self, z: Float[Array, " size"]) -> Float[Array, "members predicted"]:
        x = self.network_input(z)
        if isinstance(self.networks, ClosedForm):
            return self.networks.sigma_points(x)
        return eqx.filter_vmap(lambda network: network(x))(self.networks)

    def at(self, index: Int[np.ndarray, " n"]) -> Callable[[Float[Array, " size"]], Float[Array, "members n"]]:
        """Return `members` at some places of the flat vector; of outputs with components no others are computed."""
        if not self.bases:
            return lambda z: self.members(z)[:, jnp.asarray(index)]
        used, columns = self._columns(index)
        columns = np.asarray(self.scale)[used, None] * columns
        unit = float(np.abs(columns).max(initial=0.0)) or 1.0
        # As exact as the networks' own numbers are, and of 1 in size: none is too small for them.
        whole, about = jnp.asarray(columns / unit, self.header.dtype), self.location[index]
        return lambda z: about + unit * (self._scaled(z)[:, used] @ whole).astype(about.dtype)

    def components(self, index: Int[np.ndarray, " n"]) -> Components | None:
        """Return what `at` is made of: coefficients and columns; None where these are not far fewer than the places.

        They are those of principal components or, where places are named again and again, one output each.
        """
        if self.bases:
            used, columns = self._columns(index)
            return Components(lambda z: self._short(z)[:, used], columns, np.asarray(self.location)[index])
        once, which = np.unique(index, return_inverse=True)
        if 8 * len(once) > len(index):
            return None
        columns = (np.arange(len(once))[:, None] == which).astype(float)
        return Components(self.at(once), columns, np.zeros(len(index)))

    def _columns(self, index: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "m n"]]:
        """Return which coefficients have a part in some places of the flat vector, and what each is there."""
        columns = basis.columns(index, self.layout.slices, self.bases)
        used = np.flatnonzero(columns.any(axis=1))
        return used, columns[used]

    def network_input(self, z: Float[Array, " size"]) -> Float[Array, " size"]:
        """Return what networks are given at a whitened point."""
        inputs = z if self.header.whitened_inputs else self.space.inputs(z)
        return (self.whitening @ (inputs - self.center)).astype(self.header.dtype)

    def scatter_factor(self, z: Float[Array, " size"]) -> Float[Array, "factors outputs"]:
        """Return F with F^T F the covariance of a random simulator's scatter, in the transformed scale."""
        return jnp.zeros((0, len(self.location))) if self.random is None else self.random.factor(self.network_input(z))

    def scatter_factors(self, z: Float[Array, " size"]) -> Float[Array, "members factors outputs"]:
        """Return the same of every member, none of which is the mean of the others."""
        if self.random is None:
            return jnp.zeros((self.num_members, 0, len(self.location)))
        return self.random.factors(self.network_input(z))

    def flow_input(self, z: Float[Array, " size"], noise_z: Float[Array, " noise"]) -> Float[Array, " inputs"]:
        """Return what the flow is given at a whitened point of the simulator's parameters and of the noise's."""
        return jnp.concatenate([self.network_input(z).astype(noise_z.dtype), noise_z])

    def natural(self, y: Float[Array, "... outputs"]) -> dict[str, Float[Array, "..."]]:
        """Undo the transforms of a flat vector: outputs by name, in their own units and shapes."""
        return natural_outputs(y, self.layout, self.transform)

    def dropped(self, y: Float[np.ndarray, "rows outputs"]) -> dict[str, Float[np.ndarray, "rows values"]]:
        """Return what components drop of the outputs that have them, given natural ones, in the transformed scale."""
        lost = {}
        for name, components in self.bases.items():
            at, forward = self.layout.slices[name], TRANSFORMS[self.transform[name]].forward
            centred = forward(y[:, at], self.floor) - np.asarray(self.location[at])
            lost[name] = centred - basis.project(centred, np.asarray(components))
        return lost

    def __call__(self, parameters: Mapping[str, Any]) -> dict[str, Float[Array, "..."]]:
        """Predict every output for one set of named parameters. Differentiable; `jax.vmap` for many.

        A random simulator's outputs are predicted by their mean in the transformed scale (under a log, the median).

        Args:
            parameters: the value of each free parameter by name, in its own unit; fixed ones may be there too.

        Returns:
            Each output by name, in its own unit and shape.

        Raises:
            SimferError: for a name that is unknown or missing, another value than a fixed parameter had in training,
                arrays in place of numbers, or a point outside of the domain where `outside` is "error".
        """
        return self.mean_at(self._watched(parameters))

    def mean_at(self, z: Float[Array, " size"]) -> dict[str, Float[Array, "..."]]:
        """Predict every output at a whitened point."""
        return self.natural(self.members(z).mean(axis=0))

    def between(self, parameters: Mapping[str, Any], at: Mapping[str, Any]) -> dict[str, Float[Array, "..."]]:
        """Predict at other coordinates than those that were saved: `emulator.between(point, {"time": 3.7})`.

        As with xarray's `interp`, a dimension takes an array in place of its coordinates, a number drops it, and what
        is not named stays as it was. The network is asked at any coordinate; location and scale of what it predicts
        are cubic splines through those at the saved ones. Outside their range the answer is NaN.

        Args:
            parameters: one point, as for a call.
            at: coordinates by dimension, each a number or an array of shape (n,), in the coordinate's unit.

        Returns:
            Each output by name, in its own unit; its shape has n in place of each dimension that was named.

        Raises:
            SimferError: if the architecture is none that can be asked so, as `deeponet` is, or if no output has a
                dimension of that name.
        """
        if not isinstance(self.networks, Continuous):
            raise SimferError(
                f'train.architecture = "{self.header.architecture}" knows its outputs at their saved coordinates '
                'alone; train with "deeponet" to ask between them'
            )
        return _between(self, self.network_input(self._watched(parameters)), curves.check(at, self.layout))

    def error(self, parameters: Mapping[str, Any]) -> dict[str, Float[Array, "..."]]:
        """Estimate the standard deviation of the prediction's error.

        The members' spread at the point, and what cross-validation found beyond it; carried through the transform to
        first order.

        Args:
            parameters: one point, as for a call.

        Returns:
            Each output's standard deviation by name, in its own unit and shape.

        Raises:
            SimferError: for parameters that a call refuses.
        """
        return self.error_at(self._point(parameters))

    def error_at(self, z: Float[Array, " size"]) -> dict[str, Float[Array, "..."]]:
        """Estimate the error's standard deviation at a whitened point."""
        members = self.members(z)
        variance = self.variance(members)
        if self.random is not None:
            variance += self.random.excess @ self.scatter_factor(z) ** 2
        return self._natural_sd(members.mean(axis=0), variance)

    def scatter(self, parameters: Mapping[str, Any]) -> dict[str, Float[Array, "..."]]:
        """Return the standard deviation of a random simulator's outputs; of any other it is zero.

        Args:
            parameters: one point, as for a call.

        Returns:
            Each output's standard deviation by name, in its own unit and shape, to first order in the transform.

        Raises:
            SimferError: for parameters that a call refuses.
        """
        return self.scatter_at(self._point(parameters))

    def scatter_at(self, z: Float[Array, " size"]) -> dict[str, Float[Array, "..."]]:
        """Return the standard deviation of a random simulator's outputs at a whitened point."""
        return self._natural_sd(self.members(z).mean(axis=0), (self.scatter_factor(z) ** 2).sum(axis=0))

    def sample(self, parameters: Mapping[str, Any], key: PRNGKeyArray) -> dict[str, Float[Array, "..."]]:
        """Draw what a random simulator may return; of any other simulator, what a call predicts.

        Args:
            parameters: one point, as for a call.
            key: a PRNG key of JAX (`jax.random.key(0)`).

        Returns:
            Each output by name, in its own unit and shape: one draw of the scatter, and none of the emulator's error.
            It is that of the Gaussian with the scatter's mean and covariance, of a flow (`train.scatter`) too: this
            knows the density of what was measured alone, with its noise.

        Raises:
            SimferError: for parameters that a call refuses.
        """
        z = self._watched(parameters)
        factor = self.scatter_factor(z)
        return self.natural(self.members(z).mean(axis=0) + jax.random.normal(key, (len(factor),)) @ factor)

    def inside(self, parameters: Mapping[str, Any]) -> Bool[Array, "..."]:
        """Say whether a point, or each of many, lies in the box that the training rows span along their principal axes.

        Args:
            parameters: the value of each free parameter by name, or an array of shape (n,) of each, in its own unit.

        Returns:
            A truth value, or an array of n.

        Raises:
            SimferError: for a name that is unknown or missing, or arrays of different lengths.
        """
        return self.domain.holds(self._whitened(parameters))

    def to_xarray(self, parameters: Mapping[str, Any]) -> xr.Dataset:
        """Predict one point or many: outputs with their errors, coordinates and units, and `inside`.

        Args:
            parameters: the value of each free parameter by name, or an array of shape (n,) of each, in its own unit.

        Returns:
            A Dataset along `point`, of length n (1 for numbers): `NAME`, `NAME_error` and, of a random simulator,
            `NAME_scatter` for each output, `inside`, and the parameters as coordinates.

        Raises:
            SimferError: for a name that is unknown or missing, or arrays of different lengths.

        Example:
            >>> import simfer
            >>> emulator = simfer.load_emulator("emulator")
            >>> table = emulator.to_xarray({"alpha": [0.6, 0.7], "beta": 0.11, "delta": 0.12})
            >>> table["prey_error"].dims
            ('point', 'time')
        """
        z = jnp.atleast_2d(self._whitened(parameters))
        points = {name: np.broadcast_to(np.asarray(parameters[name], float), len(z)) for name in self.space.names}
        return labelled(tabulate(self, z), points, self.layout, self.units)

    def everything_at(self, z: Float[Array, " size"]) -> dict[str, Array]:
        """Return the outputs at a whitened point, their errors, a random simulator's scatter, and `inside`."""
        predicted = dict(self.mean_at(z)) | {f"{name}{ERROR}": sd for name, sd in self.error_at(z).items()}
        if self.random is not None:
            predicted |= {f"{name}{SCATTER}": sd for name, sd in self.scatter_at(z).items()}
        return predicted | {INSIDE: self.domain.holds(z)}

    def _natural_sd(
        self, mean: Float[Array, " outputs"], variance: Float[Array, " outputs"]
    ) -> dict[str, Float[Array, "..."]]:
        varies, shapes = variance > 0, self.layout.outputs
        # A root has no slope at 0; what is not known (NaN) has no error that is.
        sd = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)), 0.0 * variance)
        return {
            name: (sd[at] * jnp.abs(TRANSFORMS[self.transform[name]].slope(mean[at]))).reshape(shapes[name].shape)
            for name, at in self.layout.slices.items()
        }

    def variance(self, members: Float[Array, "members outputs"]) -> Float[Array, " outputs"]:
        """Return the error's variance in the transformed scale: the members' spread, and what goes beyond it."""
        return (spread_factor(members) ** 2).sum(axis=0) + self.base_variance

    def _watched(self, parameters: Mapping[str, Any]) -> Float[Array, " size"]:
        """Return the whitened point, `outside` seen to."""
        z = self._point(parameters)
        if self.outside == "ignore":
            return z
        inside = self.domain.holds(z)
        if self.outside == "nan":
            return jnp.where(inside, z, jnp.nan)
        if isinstance(z, jax.core.Tracer):  # within grad, which knows values, `inside` is none
            return eqx.error_if(z, ~inside, f"A point {_BEYOND}") if self.outside == "error" else z
        if not inside:
            point = ", ".join(f"{name} = {float(parameters[name]):.6g}" for name in self.space.names)
            if self.outside == "error":
                raise SimferError(f"{point} {_BEYOND}")
            warnings.warn(f"{point} {_BEYOND}", OutsideDomain, stacklevel=3)
        return z

    def _point(self, parameters: Mapping[str, Any]) -> Float[Array, " size"]:
        z = self._whitened(parameters)
        if z.ndim > 1:
            raise SimferError(
                f"got arrays of shape {z.shape[:-1]}, expected one point; many go through jax.vmap(emulator), or "
                "emulator.to_xarray"
            )
        return z

    def _whitened(self, parameters: Mapping[str, Any]) -> Float[Array, "... size"]:
        parameters = spread(parameters, self.space.names)
        unknown = set(parameters) - set(self.space.names) - set(self.space.fixed)
        missing = set(self.space.names) - set(parameters)
        if unknown or missing:
            raise SimferError(
                f"got parameters {sorted(parameters)}, expected {self.space.names}"
                + (f" and, fixed when it was trained, {sorted(self.space.fixed)}" if self.space.fixed else "")
            )
        try:
            shape = np.broadcast_shapes(*(np.shape(parameters[name]) for name in self.space.names))
        except ValueError:
            shapes = ", ".join(f"{name} {np.shape(parameters[name])}" for name in self.space.names)
            raise SimferError(f"got arrays of the shapes {shapes}, expected numbers, or one length for all") from None
        if len(shape) > 1:
            raise SimferError(f"got arrays of shape {shape}, expected numbers, or arrays of one axis (ravel them)")
        z = self.space.whiten_held(parameters)
        for name in sorted(set(parameters) & set(self.space.fixed)):
            value, fixed = parameters[name], self.space.fixed[name]
            other = f"got another {name} than {fixed}, at which it was fixed in training"
            if isinstance(value, jax.core.Tracer):
                z = eqx.error_if(z, ~jnp.isclose(value, fixed, rtol=_SAME, atol=0.0).all(), other)
            elif not np.allclose(value, fixed, rtol=_SAME, atol=0.0):
                raise SimferError(f"{other}: {value}")
        return z


@eqx.filter_jit
def _between(
    emulator: Emulator, x: Float[Array, " size"], at: Mapping[str, Float[Array, "..."]]
) -> dict[str, Float[Array, "..."]]:
    scaling = (emulator.location, emulator.scale)
    return curves.evaluate(emulator.networks, x, at, emulator.layout, scaling, emulator.transform)


def spread_factor(members: Float[Array, "members outputs"]) -> Float[Array, "members outputs"]:
    """Return S with S^T S the covariance of the members about their mean (zero for a single member)."""
    return (members - members.mean(axis=0)) / np.sqrt(max(len(members) - 1, 1))


def natural_outputs(
    y: Float[Array, "... outputs"], layout: Layout, transform: Mapping[str, Any]
) -> dict[str, Float[Array, "..."]]:
    """Undo the transforms of a flat vector: outputs by name, in their own units and shapes."""
    return {
        name: TRANSFORMS[transform[name]].inverse(y[..., at]).reshape(*y.shape[:-1], *layout.outputs[name].shape)
        for name, at in layout.slices.items()
    }


@eqx.filter_jit
def _tabulate(emulator: Emulator, z: Float[Array, "n size"]) -> dict[str, Array]:
    return jax.lax.map(emulator.everything_at, z, batch_size=256)


def tabulate(emulator: Emulator, z: Float[Any, "n size"]) -> dict[str, np.ndarray]:
    """Return all that is predicted at many whitened points, by name."""
    return {name: np.asarray(values) for name, values in _tabulate(emulator, jnp.asarray(z)).items()}


def predict(
    emulator: Emulator, z: Float[np.ndarray, "n size"], index: Int[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "n members outputs"]:
    """Evaluate every member at many whitened points, at all places of the flat vector or at some."""
    if index is not None and emulator.bases:
        members = emulator.at(index)
        return in_batches(members, z)
    everywhere = in_batches(emulator.members, z)
    return everywhere if index is None else everywhere[:, :, index]


def unexplained(
    residuals: Float[np.ndarray, "rows outputs"],
    spread: Float[np.ndarray, "rows outputs"],
    weights: Float[np.ndarray, " rows"],
) -> Float[np.ndarray, " outputs"]:
    """Return which fraction of the cross-validated variance goes beyond the members' own spread (weighted means).

    Where NUTS stands, the spread there is added to this rest: the sum is the cross-validated error on average, and
    grows away from the training rows.
    """
    return unexplained_share(weights @ residuals**2, weights @ spread)


def unexplained_share(
    squared: Float[np.ndarray, " outputs"], spread: Float[np.ndarray, " outputs"]
) -> Float[np.ndarray, " outputs"]:
    """Return which fraction of the mean squared residual goes beyond the members' mean variance."""
    return np.clip(1.0 - spread / np.maximum(squared, 1e-300), 0.0, 1.0)


def member_variance(members: Float[np.ndarray, "rows members outputs"]) -> Float[np.ndarray, "rows outputs"]:
    """Return the members' variance about their mean (zero for a single member)."""
    return members.var(axis=1, ddof=min(members.shape[1] - 1, 1))
