"""The sources of a user's code are followed by reading them."""

from __future__ import annotations

from pathlib import Path

import pytest

import simfer
from simfer.pipeline import sources
from simfer.pipeline.chain import closure
from simfer.pipeline.sources import outdated


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def names(folder: Path, plugin: str = "my_model.py") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in closure(folder / plugin)}


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("import helper", {"helper.py"}),
        ("import helper as h, package", {"helper.py", "package/__init__.py"}),
        ("from helper import value", {"helper.py"}),
        ("from . import helper", {"helper.py"}),
        ("from .helper import value", {"helper.py"}),
        ("import package.module", {"package/__init__.py", "package/module.py"}),
        ("from package import module", {"package/__init__.py", "package/module.py"}),
        ("from package import value", {"package/__init__.py"}),
        ("from package.module import value", {"package/__init__.py", "package/module.py"}),
        ("from package import *", {"package/__init__.py", "package/module.py"}),
        ("from package.inner import deep", {"package/__init__.py", "package/inner/__init__.py", "package/inner/deep.py",
                                            "package/module.py", "helper.py"}),
        ("import bare.module", {"bare/module.py"}),
        ("def late():\n    import helper", {"helper.py"}),
        ("try:\n    import numpy, helper\nexcept ImportError: ...", {"helper.py"}),
        ("import jax, numpy.linalg, os.path", set()),
        ("from .. import outside", set()),
        ("text = 'import helper'  # import helper", set()),
    ],
)  # fmt: skip
def test_imports(tmp_path: Path, statement: str, found: set[str]) -> None:
    folder = tmp_path / "project"
    write(
        folder,
        {
            "my_model.py": statement,
            "helper.py": "",
            "unrelated.py": "",
            "package/__init__.py": "",
            "package/module.py": "",
            "package/inner/__init__.py": "",
            "package/inner/deep.py": "from .. import module\nimport helper\n",
            "bare/module.py": "",
            "../outside.py": "",
        },
    )
    assert names(folder) == {"my_model.py"} | found


def test_through_others_and_in_circles(tmp_path: Path) -> None:
    write(tmp_path, {"my_model.py": "import a", "a.py": "import b", "b.py": "import a, my_model"})
    assert names(tmp_path) == {"my_model.py", "a.py", "b.py"}


def test_a_package_hides_the_module_of_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"my_model.py": "import a", "a.py": "", "a/__init__.py": ""})
    assert names(tmp_path) == {"my_model.py", "a/__init__.py"}


@pytest.mark.parametrize("text", ["def broken(:", "\0"])
def test_what_is_no_python_still_counts(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"my_model.py": "import helper", "helper.py": text})
    assert names(tmp_path) == {"my_model.py", "helper.py"}


@pytest.mark.parametrize(
    ("line", "now"),
    [
        ("from stages.simulators.base import ODESimulator", "from simfer import ODESimulator"),
        ("from stages.simulators import SDESimulator as Base", "from simfer import SDESimulator as Base"),
        ("from stages.architectures import Architecture", "from simfer import Architecture"),
        ("from pipeline import run, load", "from simfer import run, load"),
        ("from stages.saved import load_emulator", "from simfer import load_emulator"),
        (
            "from stages.transforms import forward",
            "from simfer import ... (`import simfer; ",
        ),
        ("import stages.noise", "from simfer import ..."),
    ],
)
def test_imports_by_the_names_of_before_are_told_from_others(tmp_path: Path, line: str, now: str) -> None:
    write(tmp_path, {"my_model.py": f"import numpy\n{line}\nfrom .stages import mine\n"})
    [(number, got, instead)] = outdated(tmp_path / "my_model.py")
    assert (number, got) == (2, line) and instead.startswith(now)


def test_a_folder_of_the_user_s_own_with_such_a_name_is_the_user_s(tmp_path: Path) -> None:
    write(tmp_path, {"my_model.py": "import pipeline\nfrom stages import x\n", "pipeline.py": "", "stages/x.py": ""})
    assert list(outdated(tmp_path / "my_model.py")) == []
    (tmp_path / "pipeline.py").unlink()
    assert [number for number, *_ in outdated(tmp_path / "my_model.py")] == [1]


def test_what_is_named_anew_is_public() -> None:
    assert set(simfer.__all__) - sources._PUBLIC <= {"Mistake"} and set(simfer.__all__) >= sources._PUBLIC
