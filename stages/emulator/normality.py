"""Whether what a random simulator gave is as normal as a Gaussian scatter says: five looks at whitened residuals."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import chi2, kstest, kurtosistest, norm, skewtest


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


def normal_p(whitened: Float[np.ndarray, "rows n"], scores: Float[np.ndarray, "rows parameters"]) -> float:
    """Return the least p of five looks at the shape, by Bonferroni.

    The sum of squares shows a wrong covariance as a whole; pooled, residuals show a shape that outputs have one by one,
    by all of it and by its skewness and kurtosis (D'Agostino 1970, Anscombe & Glynn 1983); scores show what the outputs
    have together. Of scores only skewness and kurtosis are looked at: their mean and sd have figures of their own.
    """
    if not np.isfinite(whitened).all():
        return float("nan")
    pooled = whitened.ravel()
    looks = [kstest((whitened**2).sum(axis=1), chi2(whitened.shape[1]).cdf).pvalue, kstest(pooled, norm.cdf).pvalue]
    looks += [skewtest(pooled).pvalue, kurtosistest(pooled).pvalue]
    shapes = [test(column).pvalue for column in scores.T if column.any() for test in (skewtest, kurtosistest)]
    looks += [len(shapes) * min(shapes)] if shapes else []
    return float(min(len(looks) * min(looks), 1.0))
