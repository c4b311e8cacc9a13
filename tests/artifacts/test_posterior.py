"""A posterior's draws are read without what they predict, which may be a thousand times as large."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from simfer.stages.artifacts.netcdf import write_netcdf
from simfer.stages.artifacts.posterior import AT_DATA, POSTERIOR, Posterior

SAMPLE = ("chain", "draw")
LARGE = 8 * 4 * 100 * 5000  # bytes


@pytest.fixture
def stored(tmp_path: Path) -> Posterior:
    z = np.random.default_rng(0).normal(size=(4, 100, 2))
    groups = {
        "posterior": xr.Dataset({"a": (SAMPLE, z[..., 0])}),
        "unconstrained_posterior": xr.Dataset({"z": ((*SAMPLE, "whitened"), z)}),
        "sample_stats": xr.Dataset({"place": (SAMPLE, (z[..., 0] > 0.0).astype(int))}),
    } | {name: xr.Dataset({"y": ((*SAMPLE, "datum"), np.zeros((4, 100, 5000)))}) for name in AT_DATA}
    write_netcdf(xr.DataTree.from_dict(groups), tmp_path / POSTERIOR)
    return Posterior.load(tmp_path)


def test_draws_are_read_without_what_is_as_large_as_the_data(stored: Posterior) -> None:
    tracemalloc.start()
    z, places, draws, rest = stored.z(), stored.places(10), stored.group("posterior"), stored.tree(but=AT_DATA)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < LARGE / 4
    assert z.shape == (400, 2) and places.shape == (40,) and stored.handed
    assert np.array_equal(np.asarray(draws["a"]).reshape(-1), z[:, 0])
    assert set(rest.children) == {"posterior", "unconstrained_posterior", "sample_stats"}
    assert set(stored.tree().children) == set(rest.children) | set(AT_DATA)


def test_what_was_read_is_read_again_only_where_it_was_written_again(
    stored: Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stored.group("posterior")
    first["a"][:] = 0.0  # which is the reader's own
    with monkeypatch.context() as patched:
        patched.setattr(xr, "open_dataset", lambda *_, **__: pytest.fail("read a second time"))
        again = stored.group("posterior")
    assert np.array_equal(np.asarray(again["a"]).reshape(-1), stored.z()[:, 0])
    groups = {"posterior": xr.Dataset({"a": (SAMPLE, np.full((4, 100), 7.0))})}
    write_netcdf(xr.DataTree.from_dict(groups), stored.file)
    assert (stored.group("posterior")["a"] == 7.0).all()
