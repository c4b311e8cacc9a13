"""Whether what a random simulator gave is as normal as a Gaussian scatter says: six looks at whitened residuals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


def whitened_scores(
    whitened: Float[np.ndarray, "rows n"], slopes: Float[np.ndarray, "rows n parameters"]
) -> Float[np.ndarray, "rows parameters"]:
    """Return the scores of the parameters, whitened by their information: standard normal, one for each.

    By a Gaussian's likelihood the score is J^T u, of covariance J^T J, with u the whitened residuals and J the mean's
    Jacobian whitened like them. It is what a posterior is moved by, and what all outputs share (a random start, a
    switch) is in it once and not diluted by their number. The root of the information's inverse is the symmetric one:
    each score is as near to its parameter as can be.
    """
    values, axes = np.linalg.eigh(np.einsum("dnp,dnq->dpq", slopes, slopes))
    known = values > 1e-9 * values[:, -1:]  # of what no output tells there is no score
    roots = np.where(known, 1.0 / np.sqrt(np.where(known, values, 1.0)), 0.0)
    return np.einsum("dpk,dk,dqk,dnq,dn->dp", axes, roots, axes, slopes, whitened, optimize=True)


class Normality(NamedTuple):
    """The least p of looks at whitened residuals, by Bonferroni over all of them."""

    size: float  # of their being as large as predicted, all together
    shape: float

    @property
    def least(self) -> float:
        """The least of all."""
        return min(self)


def normality(whitened: Float[np.ndarray, "rows n"], scores: Float[np.ndarray, "rows parameters"]) -> Normality:
    """Look at whitened residuals in six ways.

    The sum of squares, and all residuals pooled, show a covariance that is wrong as a whole. The shape that outputs
    have one by one is in the pooled residuals' skewness and kurtosis (D'Agostino 1970, Anscombe & Glynn 1983); scores
    show what the outputs have together. Of scores only skewness and kurtosis are looked at: their mean and sd have
    figures of their own. And each direction is looked at alone, in its order: where a random start is forgotten later,
    it is in the first outputs, and pooled with all others it is not seen.
    """
    from scipy.stats import chi2, kstest, kurtosistest, norm, skewtest

    if not np.isfinite(whitened).all():
        return Normality(float("nan"), float("nan"))
    pooled = whitened.ravel()
    size = [kstest((whitened**2).sum(axis=1), chi2(whitened.shape[1]).cdf).pvalue, kstest(pooled, norm.cdf).pvalue]
    shape = [skewtest(pooled).pvalue, kurtosistest(pooled).pvalue]
    for columns in (whitened, scores):
        each = [test(column).pvalue for column in columns.T if column.any() for test in (skewtest, kurtosistest)]
        shape += [len(each) * min(each)] if each else []
    looks = len(size) + len(shape)
    return Normality(*(float(min(looks * min(each), 1.0)) for each in (size, shape)))
