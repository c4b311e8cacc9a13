"""What is cited: whole entries, of what a config names, in the version that is here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simfer.pipeline import runtime
from simfer.pipeline.cli import app
from simfer.stages.report.citation import bibtex, keys, methods, sentence
from simfer.stages.report.material import Material, Step
from tests import helpers
from tests.helpers import ROOT


def entries(text: str) -> dict[str, str]:
    return dict(re.findall(r"^@\w+\{(\w+),\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("architecture", ["cosmopower", "deeponet", "fourier", "polynomial", "gaussian_process", "mlp"])
@pytest.mark.parametrize("sampler", ["nuts", "smc", "auto"])
def test_every_key_has_its_entry(architecture: str, sampler: str) -> None:
    table = helpers.line(infer={"sampler": sampler})
    table["train"] = {"architecture": architecture}
    found = entries(bibtex(helpers.problem(table), "1.2"))
    assert set(found) == {"simfer", *keys(helpers.problem(table))}
    assert (architecture in found) == (architecture != "mlp") and ("smc" in found) == (sampler != "nuts")
    for body in found.values():
        assert body.count("{") == body.count("}") and "title = {" in body and "author = {" in body
    assert "version = {1.2}" in found["simfer"]
    assert set(re.findall(r"[a-z_]+", re.findall(r"cite\{([^}]+)\}", methods(helpers.problem(table), "1"))[1])) <= set(
        found
    )


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(app, ["cite", str(helpers.SMOKE)])
    assert result.exit_code == 0 and "@software{simfer," in result.stdout and "@article{nuts," in result.stdout
    assert "nuts" not in CliRunner().invoke(app, ["cite"]).stdout


def test_the_citation_file_names_the_version_that_is_here() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {runtime.versions()['simfer']}\n" in text


def test_the_sentence_has_the_worst_output_s_error(tmp_path: Path) -> None:
    rows = [{"figure": f"emulator error, {name}", "value": value} for name, value in (("a", 0.02), ("b", 0.3))]
    summary = {"facts": {"simulations": 64}, "tables": {"verdict": rows}}
    step = Step("check-0", "check", 0, tmp_path, "f", summary, {}, "cpu", "", 1.0)
    material = Material("line", "", [], {}, {}, helpers.problem(helpers.line()), [step], "1.0")
    assert "at most 0.3 of the data" in sentence(material)
    unchecked = replace(step, summary=summary | {"facts": {"passed": None}})
    told = sentence(replace(material, steps=[unchecked]))
    assert "no simulator to check the posterior against" in told and "through the simulator" not in told
