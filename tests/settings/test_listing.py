"""What a config can say, as the reference, the command line and editors have it."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel

from simfer.stages.errors import UsageError
from simfer.stages.settings import NOISE, Problem, Solver
from simfer.stages.settings.listing import schema, settings
from simfer.stages.settings.noise_families import CustomNoise
from tests import fakes

CONFIGS = [*sorted(fakes.ROOT.glob("configs/*.toml")), fakes.ROOT / "pipeline" / "templates" / "problem.toml"]
OF_THE_USER_S_NAMES = ("parameters", "noise", "noise_parameters", "priors", "derived", "experiments")


def keys_of(model: type[BaseModel], key: str) -> Iterator[str]:
    """Yield every key of a table of settings."""
    for name, field in model.model_fields.items():
        place, kind = f"{key}.{name}", field.annotation
        if not is_table(kind):
            yield place
        # Of the keys of simulate.retry those of simulate.solver say all.
        for inner in [kind, *get_args(kind)] if kind != Solver | None else []:
            if is_table(inner):
                yield from keys_of(inner, f"{place}.OUTPUT" if get_origin(kind) is dict else place)


def is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def test_every_key_of_every_table_is_listed() -> None:
    tables = {name: field.annotation for name, field in Problem.model_fields.items() if name not in OF_THE_USER_S_NAMES}
    expected = [key for name, model in tables.items() for key in keys_of(model, name)]  # type: ignore[arg-type]
    listed = [each.key for each in settings() if not each.key.startswith(OF_THE_USER_S_NAMES)]
    assert sorted(listed) == sorted(expected)


def test_every_argument_of_every_noise_is_listed() -> None:
    listed = [(each.key.rpartition(".")[2], each.meaning) for each in settings("noise")]
    for family, model in NOISE.items():
        for name in model.model_fields.keys() - {"dist"}:
            assert any(name == key and meaning.startswith(f"{family}: ") for key, meaning in listed)


def test_each_says_what_it_means_and_takes() -> None:
    for each in settings():
        assert each.meaning.endswith(".") and each.type and each.default, each


def test_types_defaults_and_units_are_in_a_user_s_words() -> None:
    listed = {each.key: each for each in settings()}
    assert listed["train.width"][1:4] == ("whole number from 1 to 100000", "left out", "units")
    assert listed["observation.file"].default == "left out"  # where experiments have theirs
    assert listed["simulate.num_simulations"].type.startswith("whole number")
    assert listed["simulate.design"].type == '"sobol", "prior" or "latin_hypercube"'
    assert listed["simulate.depends_on"].type == "list of files"
    assert listed["check.max_shift"][1:4] == ("number > 0", "0.1", "posterior sd")
    assert listed["noise.OUTPUT.df"].type == "number > 0 or prior or column or formula"
    assert listed["dataset.pca"].type == "table of whole numbers >= 1 or numbers between 0 and 1"
    assert listed["train.candidates"].type == 'list of names or "file.py:Name"'


def test_one_table_is_asked_for_by_its_name() -> None:
    assert settings("train") == [each for each in settings() if each.key.startswith("train.")]
    with pytest.raises(UsageError, match='Did you mean "train"'):
        settings("trian")


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    Draft7Validator.check_schema(schema())
    return Draft7Validator(schema())


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_schema_takes_every_config(validator: Draft7Validator, config: Any) -> None:
    # Dates are text to whoever checks TOML by such a schema.
    validator.validate(json.loads(json.dumps(tomllib.loads(config.read_text()), default=str)))


@pytest.mark.parametrize(
    ("section", "key", "value", "is_right"),
    [
        ("train", "stps", 5, False),
        ("train", "steps", 0, False),
        ("train", "architecture", "auto", True),
        ("train", "architecture", "my_nets.py:Net", True),
        ("train", "architecture", "residul", False),
        ("train", "memory", "2 GB", True),
        ("train", "memory", "much", False),
        ("train", "robust", True, True),
        ("dataset", "pca", {"prey": 0.999, "predator": 12}, True),
        ("dataset", "pca", {"prey": 1.5}, False),
        ("dataset", "transform", {"prey": "lgo"}, False),
        ("simulate", "retry", {"max_steps": 100_000}, True),
        ("parameters", "alpha", {"dist": "Norml"}, False),
        ("parameters", "alpha", {"dist": "Normal", "df": 3.0}, False),
        ("noise", "prey", {"dist": "mine.py:noise", "width": {"dist": "HalfNormal"}}, True),
        ("noise", "prey", {"dist": "StudentT", "scale": 1.0}, False),
    ],
)
def test_the_schema_knows_right_from_wrong(
    validator: Draft7Validator, section: str, key: str, value: Any, is_right: bool
) -> None:
    config = copy.deepcopy(tomllib.loads((fakes.ROOT / "configs" / "smoke.toml").read_text()))
    config.setdefault(section, {})[key] = value
    assert validator.is_valid(config) == is_right


def test_editors_have_the_same_words() -> None:
    width = schema()["$defs"]["Train"]["properties"]["width"]
    assert width["description"] == "Units of a layer." and width["unit"] == "units" and "title" not in width
    assert schema()["properties"]["train"]["description"].startswith("Which network")


def test_nothing_heavy_is_imported() -> None:
    code = "import sys\nfrom simfer.stages.settings import listing\nlisting.schema(), listing.settings()\n"
    done = fakes.python(code + "print(sorted({'jax', 'numpy', 'rich'} & set(sys.modules)))")
    assert done.stdout.strip() == "[]"


def test_a_custom_noise_has_no_table_of_names() -> None:
    assert CustomNoise.model_json_schema()["properties"]["dist"]["pattern"] == r"\.py:[^\W\d]\w*$"
