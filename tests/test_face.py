"""Every public name says what it takes and gives, and its examples run."""

from __future__ import annotations

import doctest
import inspect
import re
import shutil
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import simfer
from tests.helpers import ROOT

# The working folder of every example: a problem, run once, and an emulator, beside the simulators of the errors'.
LINE = """
import jax.numpy as jnp
from simfer import FunctionSimulator, Output

TIMES = jnp.linspace(0.0, 2.0, 5)

class Line(FunctionSimulator):
    parameters = {"start": "cm", "speed": "cm/s"}

    def outputs(self):
        return {"position": Output(("time",), {"time": TIMES}, "cm")}

    def __call__(self, p):
        return {"position": p["start"] + p["speed"] * TIMES}

class Broken(Line):
    def __call__(self, p):
        return {"position": p["start"] + p["sped"] * TIMES}

class Nowhere(Line):
    def __call__(self, p):
        return {"position": jnp.nan * TIMES}
"""
PROBLEM = """
[parameters]
start = { dist = "Normal", loc = 0.0, scale = 1.0, unit = "cm" }
speed = { dist = "Normal", loc = 1.0, scale = 0.5, unit = "cm/s" }

[simulate]
simulator = "line.py:Line"
num_simulations = 64

[train]
architecture = "polynomial"

[observation]
file = "line.csv"

[noise.position]
dist = "Normal"
scale = 0.1

[infer]
num_warmup = 200
num_samples = 1000
num_chains = 2

[refine]
max_rounds = 0

[check]
num_draws = 64
"""
DATA = "time,position\n0,0.12\n0.5,0.71\n1,1.35\n1.5,1.84\n2,2.52\n"
SECTIONS = re.compile(r"^ *(Args|Returns|Raises|Example):\n", re.MULTILINE)
# What a user writes, calls or reads of a public class; what else it has is for the house.
MEMBERS = {
    "FunctionSimulator": ("outputs", "__call__"),
    "ODESimulator": ("initial_state", "vector_field", "observe"),
    "RandomODESimulator": ("initial_state", "vector_field", "observe"),
    "Result": ("folders", "summaries", "simulations", "dataset", "emulator", "posterior", "verdict", "report"),
    "SDESimulator": ("initial_state", "vector_field", "diffusion", "observe"),
    "StochasticSimulator": ("outputs", "__call__"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("face")
    for name, text in {"line.py": LINE, "line.toml": PROBLEM, "line.csv": DATA}.items():
        (place / name).write_text(text)
    shutil.copytree(ROOT / "tests" / "emulator" / "kept" / "format4" / "residual", place / "emulator")
    simfer.run(place / "line.toml")
    return place


def documented() -> list[Any]:
    """List each public name, and each member of one that is for users."""
    named = [(name, getattr(simfer, name)) for name in simfer.__all__]
    named += [(f"{name}.{each}", getattr(getattr(simfer, name), each)) for name in MEMBERS for each in MEMBERS[name]]
    named += [(f"plots.{name}", getattr(simfer.plots, name)) for name in simfer.plots.__all__]
    return [pytest.param(thing, id=name) for name, thing in named]


def sections(thing: Any) -> dict[str, str]:
    """Return the sections of a docstring by their names."""
    _, *parts = SECTIONS.split(thing.__doc__)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", simfer.__all__)
def test_examples_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    thing = getattr(simfer, name)
    assert "Example" in sections(thing)
    said: list[str] = []
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    cached = [each.func for each in vars(thing).values() if isinstance(each, cached_property)]  # which it overlooks
    for test in [test for each in (thing, *cached) for test in finder.find(each, name)]:
        runner.run(test, out=said.append)
    assert runner.tries > 0 and runner.failures == 0, "".join(said)


@pytest.mark.parametrize("name", simfer.plots.__all__)
def test_examples_of_pictures_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(getattr(simfer.plots, name), name):
        runner.run(test, out=said.append)
    assert runner.tries > 0 and runner.failures == 0, "".join(said)


def taken(thing: Any) -> list[str]:
    """Name what one gives to a function, or to a class to build one of it."""
    if isinstance(thing, type) and issubclass(thing, (simfer.Emulator, simfer.Architecture)):  # trainings build them
        return []
    if is_dataclass(thing):
        return [each.name for each in fields(thing) if each.init]
    if inspect.isfunction(thing) or (isinstance(thing, type) and "__init__" in vars(thing)):
        return [name for name in inspect.signature(thing).parameters if name != "self"]
    return []


@pytest.mark.parametrize("thing", documented())
def test_what_is_taken_and_given_is_said(thing: Any) -> None:
    said = sections(thing)
    listed = re.findall(r"^ +(\w+): ", said.get("Args", ""), re.MULTILINE)
    assert [name for name in taken(thing) if name not in listed] == []
    assert isinstance(thing, type) or "Returns" in said
    assert all(text.strip() for text in said.values())
