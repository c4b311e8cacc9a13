"""Joint priors of several parameters, written as a chain: each parameter's prior given those before it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose, sqrt
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simfer.stages.settings import earlier
from simfer.stages.settings.fields import ExistingFile, Finite, Settings


class JointPrior(Settings):
    """A multivariate normal of several parameters, or of their logarithms.

    It is the same as a Normal (or a LogNormal) of each, whose `loc` is a formula of those before it. Or it is what an
    earlier analysis came to.
    """

    names: list[str] = []
    """The parameters, which have no other prior; of a file, all that it has if left out."""
    file: ExistingFile | None = None
    """An earlier posterior, `posterior.nc`, in the place of a covariance: its marginals, and its Gaussian copula."""
    dist: Literal["MultivariateNormal"] = "MultivariateNormal"
    """The family."""
    loc: list[Finite] = []
    """The means; zeros if left out."""
    covariance: list[list[Finite]] = []
    """The covariance matrix, a row for each parameter."""
    transform: Literal["none", "log"] = "none"
    """What is normal: the parameters, or their logarithms."""
    bounds: dict[str, Annotated[list[Finite], Field(min_length=2, max_length=2)]] = {}
    """Between what a parameter of an earlier posterior lies, `{ share = [0, 1] }`; positive draws stay positive."""
    units: dict[str, str] = {}
    """The unit of each parameter, for pictures and tables."""

    @model_validator(mode="after")
    def _fits(self) -> JointPrior:
        size, rows = len(self.names), self.covariance
        if self.file is not None:
            if rows or self.loc or self.transform != "none":
                raise ValueError("got a file beside loc, covariance or transform; an earlier posterior says it all")
            return self
        if self.bounds:
            raise ValueError("bounds: those of an earlier file; a normal distribution has none")
        if size < 2 or not rows:
            raise ValueError("expected names of two parameters or more and their covariance, or an earlier file")
        if len(set(self.names)) < size:
            raise ValueError(f"names: got {self.names}, expected each once")
        if self.loc and len(self.loc) != size:
            raise ValueError(f"loc: got {len(self.loc)} numbers, expected {size}, one for each name")
        if len(rows) != size or any(len(row) != size for row in rows):
            raise ValueError(f"covariance: expected {size} rows of {size} numbers, one for each name")
        even = all(isclose(rows[i][j], rows[j][i], rel_tol=1e-8) for i in range(size) for j in range(i))
        if not even or _cholesky(rows) is None:
            raise ValueError("covariance: expected a matrix that is symmetric and positive definite")
        return self

    def chain(self, taken: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Return each parameter's prior given those before it (Bishop 2006, equations 2.81 and 2.82).

        `taken` are names that a file may have, and that are not parameters here.
        """
        if self.file is not None:
            return earlier.read(self.file, self.names, taken, self.units, self.bounds).parts
        loc, factor = self.loc or [0.0] * len(self.names), _cholesky(self.covariance)
        assert factor is not None
        family = "Normal" if self.transform == "none" else "LogNormal"
        priors: dict[str, dict[str, Any]] = {}
        for i, name in enumerate(self.names):
            mean = self._mean(float(loc[i]), _gain(factor, i), loc)
            unit = {"unit": self.units[name]} if name in self.units else {}
            priors[name] = {"dist": family, "loc": mean, "scale": factor[i][i], **unit}
        return priors

    def _mean(self, own: float, gain: list[float], loc: list[float]) -> float | str:
        terms = []
        for name, factor, center in zip(self.names, gain, map(float, loc), strict=False):
            before = f"log(`{name}`)" if self.transform == "log" else f"`{name}`"
            terms.append(f"{factor!r} * ({before} - {center!r})")
        # A minus is fine where a term is expected: "2.0 * (`a` - -1.0)" reads as it should.
        return " + ".join([repr(own), *terms]) if terms else own


# A config is checked without NumPy, which takes longer to import than the rest of the check.
def _cholesky(matrix: list[list[float]]) -> list[list[float]] | None:
    """Return the lower triangle whose square a matrix is; None where it is not positive definite."""
    factor: list[list[float]] = []
    for i, row in enumerate(matrix):
        new: list[float] = []
        for j in range(i):
            new.append((row[j] - sum(a * b for a, b in zip(new, factor[j], strict=False))) / factor[j][j])
        rest = row[i] - sum(value**2 for value in new)
        if not rest > 1e-12 * abs(row[i]):
            return None
        factor.append([*new, sqrt(rest)])
    return factor


def _gain(factor: list[list[float]], i: int) -> list[float]:
    """Return by how much the mean of the i-th moves with each of those before it."""
    gain = [0.0] * i
    for j in reversed(range(i)):
        later = sum(gain[k] * factor[k][j] for k in range(j + 1, i))
        gain[j] = (factor[i][j] - later) / factor[j][j]
    return gain
