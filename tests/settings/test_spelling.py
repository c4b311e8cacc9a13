"""Names that files cannot have, and names that two quantities would have, are refused before anything is computed."""

from __future__ import annotations

from typing import Any

import pytest

from simfer.pipeline import chain
from simfer.stages.errors import ConfigError
from simfer.stages.settings.priors import is_positive
from simfer.stages.settings.spelling import unwritable
from tests import helpers

HALF = {"dist": "HalfNormal", "scale": 1.0}


@pytest.mark.parametrize("name", ["", " a", "CL/F", "Growth rate [1/h]", ".", "..", "zarr.json", "x" * 300, "a\nb"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    assert unwritable(name)


@pytest.mark.parametrize("name", ["k.on", "β", "lambda", "CL_F", "Growth rate [per h]", "yeast_scale", "if"])
def test_a_name_that_one_can(name: str) -> None:
    assert unwritable(name) is None


def test_a_parameter_with_a_slash_is_refused_with_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r'CL/F.*Call it "CL_F" .*`label`'):
        helpers.problem(helpers.line(parameters={"CL/F": {"dist": "Normal"}}))


def test_an_output_with_a_slash_is_refused(tmp_path: Any) -> None:
    (tmp_path / "od.py").write_text(
        "from simfer import FunctionSimulator, Output\n\n\nclass OD(FunctionSimulator):\n    parameters = {'a': ''}\n\n"
        "    def outputs(self):\n        return {'OD/600': Output()}\n\n    def __call__(self, p):\n"
        "        return {'OD/600': p['a']}\n"
    )
    (tmp_path / "od.csv").write_text("OD/600\n1.0\n")
    table = helpers.line(
        parameters={"intercept": None, "slope": None, "a": {"dist": "Normal"}},
        simulate={"simulator": f"{tmp_path / 'od.py'}:OD", "options": {"x": None}},
        observation={"file": str(tmp_path / "od.csv")},
        noise={"y": None, "OD 600": {"dist": "Normal", "scale": 1.0}},
    )
    assert any('Call it "OD_600"' in found.what for found in chain.mistakes(helpers.problem(table)))


def test_a_noise_has_no_name_of_a_parameter() -> None:
    """The noise's would replace the parameter in the posterior, in silence."""
    table = helpers.line(parameters={"y_scale": {"dist": "Normal"}}, noise={"y": {"dist": "Normal", "scale": HALF}})
    with pytest.raises(ConfigError, match=r'noise.y.scale: .* "y_scale", as a parameter is; rename'):
        helpers.problem(table)
    helpers.problem(helpers.merged(table, {"noise": {"y": {"scale": 0.5}}}))  # what is not inferred has no name


def test_two_outputs_have_no_noise_of_one_name() -> None:
    noise = {"a": {"dist": "a.py:f", "b_scale": HALF}, "a_b": {"dist": "Normal", "scale": HALF}}
    (helpers.scratch() / "a.py").write_text("def f(y, b_scale): ...\n")
    with pytest.raises(ConfigError, match=r'noise.a.b_scale, noise.a_b.scale: both are called "a_b_scale"'):
        helpers.problem(helpers.line() | {"noise": noise})


@pytest.mark.parametrize("prior", [{"dist": "Normal"}, {"dist": "Uniform", "low": -1.0}, {"dist": "Cauchy"}])
def test_a_scale_is_inferred_on_positive_numbers(prior: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"noise.y.scale: the prior \w+ reaches below zero"):
        helpers.problem(helpers.line(noise={"y": {"dist": "Normal", "scale": prior}}))


def test_which_priors_are_positive() -> None:
    import numpy as np
    from pydantic import TypeAdapter

    from simfer.stages.model.quantiles import distribution
    from simfer.stages.settings import AnyPrior
    from simfer.stages.settings.prior_table import PRIORS

    values = {"real": -2.0, "positive": 1.0, "unit": 0.5}
    for name, family in PRIORS.items():
        given = {key: values[spec.domain] for key, spec in family.arguments.items() if not spec.optional}
        given |= {"low": -1.0 if name == "Uniform" else 0.5} if "low" in family.arguments else {}
        given |= {"high": 3.0} if "high" in family.arguments else {}
        prior = TypeAdapter(AnyPrior).validate_python({"dist": name} | given)
        least = getattr(distribution(prior).support, "lower_bound", None)
        expected = least is not None and float(np.asarray(least)) >= 0.0
        expected |= name in ("Beta", "BetaProportion", "Dagum", "Gompertz")
        assert is_positive(prior) == expected, name
