"""A wrong config is answered with every problem, its place, and what would be right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from simfer.pipeline import config
from simfer.pipeline.chain import ConfigError
from simfer.stages.settings import Problem, Settings, Simulate
from simfer.stages.simulate.simulators.base import as_times
from tests import helpers
from tests.fakes import CONFIG, write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path)


def complaints(path: Path, *overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config.load(path, overrides)
    return {problem.where: problem.what for problem in caught.value.mistakes}


def test_a_right_config_loads(project: Path) -> None:
    problem = config.load(project, ["train.steps=7", "simulate.seed = 3", 'train.schedule="constant"'])
    assert (problem.train.steps, problem.simulate.seed, problem.train.schedule) == (7, 3, "constant")
    assert problem.observation.file == str(project.parent / "data.csv")


@pytest.mark.parametrize(
    ("override", "where", "what"),
    [
        ("parameters.alpha.scale=-0.5", "parameters.alpha.scale", "got -0.5, expected a number greater than 0"),
        ("parameters.alpha.scale=inf", "parameters.alpha.scale", "got inf, expected a finite number"),
        ('parameters.alpha.loc="one"', "parameters", 'alpha.loc: got "one", expected a number, or a formula'),
        ("parameters.alpha.lco=1.0", "parameters.alpha.lco", 'unknown key. Did you mean "loc"?'),
        ("parameters.alpha.dist=Norml", "parameters.alpha", 'dist = "Norml" is not a prior'),
        ("parameters.alpha.dist=Norml", "parameters.alpha", 'Did you mean "Normal"? (known: AsymmetricLaplace, '),
        ("parameters.alpha.dist=Beta", "parameters.alpha.concentration1", "missing"),
        ("parameters.alpha={ loc = 1.0 }", "parameters.alpha", "dist is missing"),
        ("parameters.alpha=wide", "parameters.alpha", "expected a number, or a prior such as { dist ="),
        ('parameters.alpha={ dist = "Uniform", low = 2.0 }', "parameters.alpha", "expected low < high"),
        ("parameters.alpha=1.0", "", "give at least one a prior"),
        ("train.seed=-1", "train.seed", "got -1, expected a number of at least 0"),
        ("train.steps=2.5", "train.steps", "got 2.5, expected a whole number"),
        ("train.ensemble_size=true", "train.ensemble_size", "got true, expected a whole number"),
        ("train.stps=5", "train.stps", 'Did you mean "steps"? (known: activation, '),
        ("train.num_simulations=5", "train.num_simulations", "It belongs in [simulate]"),
        ("train=5", "train", "got 5, expected a table"),
        ("trian.steps=5", "trian", 'Did you mean "train"?'),
        (
            "simulate.design=sobl",
            "simulate.design",
            'expected one of sobol, prior, latin_hypercube. Did you mean "sobol"?',
        ),
        ("simulate.simulator=lotka_voltera", "simulate.simulator", '"lotka_volterra"'),
        ("simulate.simulator=gone.py:Model", "simulate.simulator", "no such file"),
        ("simulate.solver.rtl=1.0", "simulate.solver.rtl", 'Did you mean "rtol"?'),
        ('simulate.depends_on=["gone.csv"]', "simulate.depends_on[0]", "no such file"),
        ("observation.file=gone.csv", "observation.file", "no such file"),
        ("dataset.transform.x=lgo", "dataset.transform.x", 'Did you mean "log"?'),
        ("noise.x.scale=-1", "noise.x.scale", "greater than 0"),
        ('noise.x.scale={ dist = "Normal", scale = -1.0 }', "noise.x.scale.scale", "greater than 0"),
        ("noise.x.dist=Norml", "noise.x", 'is not a noise family that Simfer knows. Did you mean "Normal"?'),
        ("noise.x.df=3.0", "noise.x.df", "unknown key"),
        ("noise.x=3", "noise.x", "got 3, expected a table that names a distribution"),
        ('noise.y={ dist = "my_noise.py:noise" }', "noise.y.dist", "no such file"),
        ('parameters.prior={ dist = "Normal", scale = -1.0 }', "parameters.prior.scale", "greater than 0"),
        ('parameters."a b"={ dist = "Normal", scale = -1.0 }', 'parameters."a b".scale', "greater than 0"),
    ],
)
def test_a_wrong_value_is_answered(project: Path, override: str, where: str, what: str) -> None:
    found = complaints(project, override)
    assert where in found
    assert what in found[where]


def test_no_word_of_the_machinery(project: Path) -> None:
    found = complaints(project, "noise.x.dist=A", "parameters.beta=x", "simulate.simulator=1", "train.optimizer=3")
    assert len(found) == 4
    assert not any(word in text.lower() for text in found.values() for word in ("pydantic", "tag", "union", "input"))


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = write_project(tmp_path)
    path.write_text(
        CONFIG.replace("scale = 0.5", "scale = 0.0").replace("num_sim", "numm_sim").replace("data.csv", "x")
    )
    assert set(complaints(path)) == {
        "parameters.alpha.scale",
        "simulate.num_simulations",
        "simulate.numm_simulations",
        "observation.file",
    }


def test_tables_that_are_left_out_are_what_an_empty_one_is() -> None:
    # They are made without being checked, which takes building the checks.
    unchecked = [
        (field.default, model)
        for model in (Problem, Simulate)
        for field in model.model_fields.values()
        if isinstance(field.default, Settings)
    ]
    assert len(unchecked) > 10
    for default, model in unchecked:
        checked = type(default)()
        assert default == checked and default.model_dump() == checked.model_dump(), model
        assert default.model_fields_set == checked.model_fields_set


def test_missing_sections(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    found = complaints(tmp_path / "a.toml")
    assert set(found) == {"parameters", "simulate", "observation"}
    assert found["simulate"] == "missing; the config needs a table [simulate]"


def test_data_without_noise(tmp_path: Path) -> None:
    path = write_project(tmp_path)
    path.write_text(CONFIG[: CONFIG.index("[noise")])
    (said,) = complaints(path).values()
    assert said.startswith("noise: missing; say for each output that was measured")


def test_bad_toml_says_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[train]\nsteps = \n")
    assert "line 2" in complaints(path)[str(path)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[parameters]\na = 1\nb = 2\na = 3\n", "line 4: a in [parameters] is there already, in a line above"),
        ("[parameters]\na = 1\n[noise]\n[parameters]\n", "line 4: the table [parameters] is there already"),
        ("[parameters]\na.dist = 'Normal'\na = 3\n", "line 3: a in [parameters] is there already"),
        ("[parameters]\na = { loc = 1, loc = 2 }\n", "line 2: loc stands twice within one pair of braces"),
        ("[x]\na = 1\na = [\n  1,\n  2,\n]\n", "line 3: a in [x] is there already"),
        ("seed = 1\nseed = 2\n", "line 2: seed is there already"),
        ("[x]\na = { b = 1 }\n[x.a]\nb = 2\n", "line 3: the table [x.a] is there already"),
        ("[x]\na = 1\na = 2", "line 3: a in [x] is there already"),
        ("a = 1\na = '''\nfoo = 2\n'''\n", "line 2: a is there already"),
        ("[x]\nm = [\n [1, 2],\n [3, 4]\n]\na = 1\na = 2\n", "line 7: a in [x] is there already"),
        ("[x]\na = { b = 1 }\na.c = 2\n", "line 3: a.c in [x] cannot be added, as x.a is closed by its braces"),
        ("[x]\na = { b = 1 }\n[x.a.c]\n", "line 3: the table [x.a.c] cannot be added, as x.a is closed by its braces"),
        ("a = [1]\n[[a]]\n", "line 2: the table [a] cannot be added, as a is closed by its brackets"),
        ("[x]\na = 1\na.b = 2\n", "line 3: a.b in [x] cannot be, as x.a has a value in a line above"),
        ("x = 1\n[x]\n", "line 2: the table [x] cannot be, as x has a value in a line above"),
    ],
)
def test_what_is_there_twice_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        config.load(tmp_path / "bad.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    write_project(tmp_path)
    assert "problem.toml" in complaints(tmp_path / "problm.toml")[str(tmp_path / "problm.toml")]
    assert "a folder; expected a config file" in complaints(tmp_path)[str(tmp_path)]
    (tmp_path / "latin.toml").write_bytes("# caf\xe9".encode("latin-1"))
    assert "UTF-8" in complaints(tmp_path / "latin.toml")[str(tmp_path / "latin.toml")]


@pytest.mark.parametrize("override", ["train.steps", "=5", "train..steps=5", ""])
def test_a_malformed_override(project: Path, override: str) -> None:
    assert "expected KEY=VALUE" in complaints(project, override)[f"--set {override}"]


def test_an_override_below_a_value_that_is_no_table(project: Path) -> None:
    found = complaints(project, "simulate.num_simulations.x=1")
    assert "simulate.num_simulations is 64, not a table" in found["--set simulate.num_simulations.x=1"]


def test_an_override_replaces_a_whole_prior(project: Path) -> None:
    problem = config.load(project, ['parameters.alpha={ dist = "HalfNormal" }'])
    assert problem.model_dump()["parameters"]["alpha"]["dist"] == "HalfNormal"


def test_paths_of_overrides_are_looked_for_here_first(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "data.csv").write_text("time,x\n")
    (here / "Normal").write_text("a file that is called like a distribution")
    monkeypatch.chdir(here)
    problem = config.load(project, ["observation.file=data.csv", "noise.x.dist=Normal", "simulate.options.f=data.csv"])
    assert problem.observation.file == str(here / "data.csv")
    assert problem.simulate.options == {"f": "data.csv"}
    (here / "data.csv").unlink()
    assert config.load(project, ["observation.file=data.csv"]).observation.file == str(project.parent / "data.csv")


def test_where_artifacts_go(tmp_path: Path) -> None:
    assert config.project_folder(tmp_path / "configs" / "a.toml") == tmp_path
    assert config.project_folder(tmp_path / "study" / "a.toml") == tmp_path / "study"
    assert config.store_folder(tmp_path) == tmp_path / "data" / "artifacts"
    assert config.store_folder(tmp_path, tmp_path / "elsewhere") == tmp_path / "elsewhere"


class TestAnyText:
    """Whatever is typed or saved by an editor ends in a config or in a sentence."""

    @pytest.mark.parametrize("label", ["𝜔", "$\\alpha$", 'say "x"', "\x7f", "a\nb", "[" * 5000])
    def test_a_bare_word_is_text(self, label: str) -> None:
        problem = config.from_table(helpers.line(), [f"parameters.slope.label={label}"], folder=helpers.scratch())
        assert problem.parameters["slope"].label == label  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        "override", ["train.steps=1\udcff", f"{'a.' * 3000}b=1", "=1", f"train.steps={'9' * 5000}"]
    )
    def test_what_is_none_is_refused(self, override: str) -> None:
        with pytest.raises(ConfigError) as refused:
            config.from_table(helpers.line(), [override], folder=helpers.scratch())
        assert len(refused.value.mistakes) == 1

    @pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a." * 5000 + "b = 1", "a = " + "9" * 5000, "a = \0"])
    def test_a_file_that_no_parser_likes(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.toml").write_text(text)
        with pytest.raises(ConfigError):
            config.load(tmp_path / "a.toml")

    @pytest.mark.parametrize(
        "more",
        [
            {"train": {"\ud800": 1}},
            {"parameters": {"\ud800": 1.0}},
            {"observation": {"file": "\ud800"}},
            {"simulate": {"simulator": "\ud800.py:A"}},
        ],
    )
    def test_a_table_with_letters_that_are_none(self, more: dict[str, Any]) -> None:
        with pytest.raises(ConfigError) as refused:
            config.from_table(helpers.line(**more), folder=helpers.scratch())
        assert refused.value.mistakes

    def test_a_mark_before_the_text_is_none_of_it(self, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_text("a = 1\n", encoding="utf-8-sig")
        assert config.read(tmp_path / "a.toml") == {"a": 1}

    def test_a_name_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            config.read(tmp_path / f"{'n' * 300}.toml")
        with pytest.raises(ConfigError, match="which cannot be a file"):
            config.from_table(helpers.line(observation={"file": "n" * 300}), folder=tmp_path)

    def test_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        helpers.write_line(tmp_path / "mine.csv")
        problem = config.from_table(helpers.line(observation={"file": "~/mine.csv"}), folder=helpers.scratch())
        assert problem.observation.file == str(tmp_path / "mine.csv")
        assert config.store_folder(tmp_path, "~/store") == tmp_path / "store"

    @pytest.mark.parametrize(
        "override",
        [
            "simulate.num_simulations=64000000000000",
            "train.depth=18446744073709551616",
            "train.width=4294967296",
            "train.ensemble_size=2000000000000",
            f"simulate.solver.max_steps={10**30}",
            'train.memory="inf GB"',
            'train.memory="1e400 GB"',
            'train.robust="yes"',
        ],
    )
    def test_sizes_have_bounds(self, override: str) -> None:
        with pytest.raises(ConfigError) as refused:
            config.from_table(helpers.line(), [override], folder=helpers.scratch())
        assert all(each.where in override for each in refused.value.mistakes)


@pytest.mark.parametrize("num", [10**13, 0, -1, 2.5, "x"])
def test_save_times_are_bounded(num: Any) -> None:
    with pytest.raises(ValueError, match=r"got times.num = .*, expected a whole number from 1 to"):
        as_times({"start": 0.0, "stop": 1.0, "num": num})
