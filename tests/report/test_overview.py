"""The page of several runs: what changed, what came of it, and nothing that is the same in all."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from typer.testing import CliRunner

from simfer.pipeline import chain, config
from simfer.pipeline.cli import app
from simfer.pipeline.plan import Plan
from simfer.pipeline.report import _material
from simfer.pipeline.store import Store
from simfer.stages.report.material import Material
from simfer.stages.report.overview import render
from tests import helpers
from tests.report.test_page import Tags

NUTS, SMC = (), ("infer.sampler='smc'", "infer.num_samples=500")


def material(name: str, *overrides: str) -> Material:
    helpers.line_run(*overrides)
    problem = config.from_table(helpers.line(), list(overrides), folder=helpers.scratch())
    plan = Plan(problem, Store(helpers.scratch() / "line"))
    made: Material = chain._material(_material(plan, list(plan.walk()), helpers.line(), overrides, None))
    return Material(**(vars(made) | {"name": name}))


@cache
def page() -> str:
    return render([material("by nuts", *NUTS), material("by <smc>", *SMC)], {"by nuts": "nuts.html"})


def test_it_is_whole_and_asks_for_nothing() -> None:
    tags = Tags()
    tags.feed(page())
    assert not tags.open and {"runs", "changed", "posteriors", "figures"} <= set(tags.ids)
    assert "by &lt;smc&gt;" in page() and "by <smc>" not in page()
    assert "src=" not in page() and '<a href="nuts.html">' in page()


def test_it_has_what_changed_and_nothing_else() -> None:
    changed = page()[page().index('id="changed"') : page().index('id="posteriors"')]
    assert "infer.sampler" in changed and "infer.num_samples" in changed
    assert "train.steps" not in changed and "settings are the same" in changed


def test_means_are_held_against_the_first_run_s() -> None:
    mean, covariance = helpers.exact_line()
    posteriors = page()[page().index('id="posteriors"') : page().index('id="figures"')]
    assert "slope" in posteriors and "by &lt;smc&gt;, shift" in posteriors
    assert f"{mean[1]:.2f}".replace("-", "−")[:4] in posteriors and covariance[1, 1] > 0
    assert "<svg" in posteriors  # the densities, over one another


def test_one_config_is_no_overview(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["overview", str(helpers.SMOKE), "--store", str(tmp_path)])
    assert result.exit_code == 2 and "expected two or more" in result.stderr


def test_the_command_writes_it_for_what_has_not_run_too(tmp_path: Path) -> None:
    file = tmp_path / "o.html"
    asked = [
        str(helpers.SMOKE),
        str(helpers.SMOKE.with_name("sir.toml")),
        "--store",
        str(tmp_path),
        "--output",
        str(file),
    ]
    result = CliRunner().invoke(app, ["overview", *asked])
    assert result.exit_code == 0, result.stderr
    assert file.read_text().count("No posterior yet") == 2
