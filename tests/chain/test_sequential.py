"""Data that come in two halves: the first half's posterior is the second half's prior."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simfer import pipeline
from tests import helpers


@pytest.mark.slow  # two chains; its twin is tests/model/test_earlier.py
def test_two_halves_give_the_posterior_of_all_data(tmp_path: Path) -> None:
    y = helpers.line_data()

    def half(name: str, at: slice) -> Path:
        file = tmp_path / f"{name}.csv"
        file.write_text(
            "x,y\n" + "".join(f"{float(x)!r},{float(v)!r}\n" for x, v in zip(helpers.X[at], y[at], strict=True))
        )
        return file

    more = {"observation": {"file": str(half("first", slice(0, 5)))}, "infer": {"num_samples": 2000}}
    first = pipeline.run(helpers.line(**more), store=tmp_path / "first", until="infer")
    (posterior,) = (tmp_path / "first").rglob("posterior.nc")
    table = helpers.line(observation={"file": str(half("second", slice(5, None)))}, infer={"num_samples": 2000})
    del table["parameters"]
    table["priors"] = {"earlier": {"file": str(posterior)}}
    second = pipeline.run(table, store=tmp_path / "second")
    assert first.posterior is not None and second.passed
    draws = second.posterior["posterior"]
    mean, covariance = helpers.exact_line()
    for i, name in enumerate(helpers.PRIOR):
        sd = float(np.sqrt(covariance[i, i]))
        assert abs(float(draws[name].mean()) - mean[i]) < 0.1 * sd  # two posteriors' Monte Carlo error
        assert float(draws[name].std()) == pytest.approx(sd, rel=0.08)
