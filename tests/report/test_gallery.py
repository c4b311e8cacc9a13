"""Pictures for a paper: drawn anew from what lies on disk, as the config has it, and with nothing computed again."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import simfer
from simfer.pipeline import Result, chain
from simfer.pipeline.plan import Plan
from simfer.pipeline.store import Store
from simfer.stages.plots.figures import broken
from simfer.stages.plots.planes import edges_of
from tests import helpers


@pytest.fixture(scope="module")
def result() -> Result:
    return helpers.line_run()


def test_a_run_is_drawn_as_the_config_has_it(result: Result, tmp_path: Path) -> None:
    look = {"formats": ["svg", "pdf"], "width": 3.4, "labels": {"slope": r"$\beta_1$"}, "style": {"font.size": 7}}
    problem = helpers.problem(helpers.line(plots=look))
    folders = dict(result.folders) | {"first": result.folders["simulate"]}
    files = chain.gallery(problem, folders).write(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files} and len(files) == 14
    for file in files:
        if file.suffix == ".svg":
            root = ElementTree.parse(file).getroot()
            wide = 5.6 if file.stem == "verdict" else 3.4  # the names of its figures need as much
            assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(wide * 72)
        else:
            assert file.read_bytes().startswith(b"%PDF")
    assert "β" in (tmp_path / "posterior.svg").read_text("utf-8")


def test_how_pictures_look_is_in_no_key() -> None:
    keys = [
        [step.key for step in Plan(helpers.problem(helpers.line(plots=look)), Store(helpers.scratch() / "none")).walk()]
        for look in ({}, {"width": 3.4})
    ]
    assert keys[0] == keys[1]


def test_what_is_drawn_in_logarithms_is_in_no_key_and_a_log_uniform_prior_asks_for_it() -> None:
    prior = {"dist": "LogUniform", "low": 0.1, "high": 10.0}
    problem = helpers.problem(helpers.line(plots={"log": ["y"]}, parameters={"slope": prior}))
    assert problem.in_logs == ["y", "slope"]
    keys = [
        [step.key for step in Plan(helpers.problem(helpers.line(plots=look)), Store(helpers.scratch() / "none")).walk()]
        for look in ({}, {"log": ["y"]})
    ]
    assert keys[0] == keys[1]


def test_a_style_that_there_is_none_of(result: Result, tmp_path: Path) -> None:
    problem = helpers.problem(helpers.line(plots={"style": {"font.sise": 7}}))
    with pytest.raises(simfer.ConfigError, match=r"plots.style: got font.sise"):
        chain.gallery(problem, result.folders).write(tmp_path)


def test_what_is_to_be_logarithmic_and_is_not_there(result: Result, tmp_path: Path) -> None:
    problem = helpers.problem(helpers.line(plots={"log": ["x", "y", "slop"]}))
    with pytest.raises(simfer.ConfigError, match=r"plots.log: got slop, expected names of .*slope"):
        chain.gallery(problem, result.folders).write(tmp_path)


def test_the_truth_is_marked(result: Result) -> None:
    plain, marked = (simfer.plots.posterior(result, truth=truth) for truth in (None, helpers.TRUTH))
    lines = [sum(len(ax.lines) for ax in figure.axes) for figure in (plain, marked)]
    assert lines[1] == lines[0] + 4  # two marginals, and both ways across the pair
    assert "truth" in [text.get_text() for text in marked.legends[0].texts]


def test_what_cannot_be_drawn_is_said(result: Result) -> None:
    with pytest.raises(simfer.SimferError, match=r"got names \['gamma'\], expected some of \['intercept', 'slope'\]"):
        simfer.plots.posterior(result, names=["gamma"])
    with pytest.raises(simfer.SimferError, match="verdict cannot be drawn yet; there is design"):
        simfer.plots.verdict(helpers.line_run(until="simulate"))


def test_cells_reach_half_way_to_their_neighbours() -> None:
    assert edges_of(np.array([0.0, 1.0, 3.0, 10.0])).tolist() == [-0.5, 0.5, 2.0, 6.5, 13.5]
    assert edges_of(np.array([4.0])).tolist() == [2.0, 6.0]


def test_long_names_break_before_their_units() -> None:
    assert broken("beta [1/(predator time)]", 1.35) == "beta\n[1/(predator\ntime)]"
    assert broken("k [1/s]", 1.35) == "k [1/s]"
    assert broken(r"$\alpha_{long}^{name with words}$ [m]", 1.0) == "$\\alpha_{long}^{name with words}$\n[m]"


def test_a_notebook_shows_a_picture_without_pyplot(result: Result) -> None:
    assert simfer.plots.posterior(result)._repr_png_().startswith(b"\x89PNG")
