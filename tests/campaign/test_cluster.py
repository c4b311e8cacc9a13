"""A driver, its workers, their scheduler and their children are killed at random: no row is lost, none is run twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simfer.pipeline.config import load
from simfer.stages.artifacts.arrays import array
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.progress import Silent
from simfer.stages.simulate import design
from simfer.stages.simulate.rows import fill
from tests.campaign.cluster import CONFIG, MODEL, Cluster

pytest.importorskip("distributed")


def stored(folder: Path) -> dict[str, np.ndarray]:
    """Return all that there is of an ensemble but how its rows are cut into chunks."""
    assert not (folder / "journal").exists()
    group = Simulations.load(folder).group
    return {name: np.asarray(array(group, name)[:]) for name in ("a", "b", "y", "sum", "z", "status")}


def test_whatever_is_killed_the_store_is_that_of_an_undisturbed_run(
    tmp_path: Path, cases: Callable[[int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    num_kills, num = cases(2, 200), cases(6, 190)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "observed.csv").write_text("y\n1.0\n")
    (tmp_path / "c.toml").write_text(CONFIG.format(num=num, seed=1))
    cluster = Cluster(tmp_path, seed=num_kills)
    try:
        cluster.simulate("disturbed", num_kills)
    finally:
        cluster.end()
    again, on_the_way, delays = cluster.run_twice()
    print(
        f"\nkilled: {dict(cluster.kills)}; run again though kept: {again}; lost between end and journal: {on_the_way}"
    )
    print(f"from end to journal: median {delays[len(delays) // 2]:.3f} s, the longest {delays[-1]:.3f} s")
    assert again == [] and cluster.kills.total() == num_kills
    assert len(delays) >= num // 2  # rows whose block is written at once are in no journal
    monkeypatch.setenv("SECONDS", "0")
    problem = load(tmp_path / "c.toml")
    space = Space(problem.parameters)
    points = design.rows("sobol", 0, num, num, space.size, 1)
    (tmp_path / "right").mkdir()
    fill(tmp_path / "right", problem.simulate, space, num, lambda a, b: points[a:b], Silent())
    (folder,) = (each for each in (tmp_path / "disturbed" / "simulate").iterdir() if not each.name.startswith("."))
    right, got = stored(tmp_path / "right"), stored(folder)
    # A row whose child is killed three times has crashed, as one that takes all memory does.
    crashed = got["status"] == Status.CRASHED
    lost = cluster.lost()
    points = np.stack([got["a"], got["b"]], axis=1)[crashed].tolist()
    assert all(lost[f"{a!r} {b!r}"] >= 3 for a, b in points)
    print(f"rows whose child was killed three times: {crashed.sum()}")
    for name, values in right.items():
        assert np.array_equal(values[~crashed], got[name][~crashed]), name
