"""Names from a table, and from files that the user typed."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType

import jax
import pytest

from simfer.stages.errors import ConfigError
from simfer.stages.model import beside
from simfer.stages.model.plugins import resolve

TABLE = {"counter": "collections:Counter"}


def test_a_name_of_the_table() -> None:
    from collections import Counter

    assert resolve("counter", TABLE) is Counter


def test_a_name_in_a_file_and_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text("from part import value\n\nclass Mine:\n    number = value\n")
    (tmp_path / "part.py").write_text("value = 7\n")
    mine = resolve(f"{tmp_path / 'plug.py'}:Mine", TABLE)
    assert mine.number == 7 and mine is resolve(f"{tmp_path / 'plug.py'}:Mine", TABLE)
    assert str(tmp_path) not in sys.path and "part" not in sys.modules
    assert not list(tmp_path.glob("__pycache__"))


def test_two_folders_may_hold_files_of_the_same_names(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plug.py").write_text("from part import value\n")
        (tmp_path / name / "part.py").write_text(f"value = {value}\n")
    assert [resolve(f"{tmp_path / name / 'plug.py'}:value", {}) for name in "ab"] == [1, 2]


def test_a_name_that_is_not_there_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text("class Mine: ...\n")
    with pytest.raises(ConfigError) as refused:
        resolve(f"{tmp_path / 'plug.py'}:Yours", {}, "simulate.simulator")
    assert str(refused.value) == "simulate.simulator: plug.py defines no Yours"


def test_what_the_file_raises_goes_through_and_it_may_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text("raise RuntimeError('mine')\n")
    with pytest.raises(RuntimeError, match="mine"):
        resolve(f"{tmp_path / 'plug.py'}:Mine", {})
    (tmp_path / "plug.py").write_text("class Mine: ...\n")
    assert resolve(f"{tmp_path / 'plug.py'}:Mine", {}).__name__ == "Mine"


def test_a_function_may_import_what_lies_beside_it_when_it_is_called(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        (tmp_path / name / "package").mkdir(parents=True)
        (tmp_path / name / "package" / "__init__.py").write_text("from .inner import value\n")
        (tmp_path / name / "package" / "inner.py").write_text(f"calls = []\nvalue = {value}\n")
        (tmp_path / name / "helper.py").write_text("def get():\n    import package\n    return package.value\n")
        (tmp_path / name / "plug.py").write_text(
            "def f():\n    import helper\n    from package.inner import calls\n    calls.append(0)\n"
            "    return helper.get(), len(calls)\n"
        )
    first, second = (resolve(f"{tmp_path / name / 'plug.py'}:f", {}) for name in "ab")
    assert [first(), second(), first()] == [(1, 1), (2, 1), (1, 2)]  # each its own, and the same each time
    assert not {"helper", "package", "package.inner"} & set(sys.modules) and str(tmp_path / "a") not in sys.path


def test_what_ran_is_known_by_its_digest(tmp_path: Path) -> None:
    plug, part = tmp_path / "plug.py", tmp_path / "part.py"
    plug.write_text("from part import value\n")
    part.write_text("value = 7\n")
    resolve(f"{plug}:value", {})
    digests = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in (plug, part)}
    part.write_text("value = 8\n")
    assert digests.items() <= beside.executed().items()
    assert resolve(f"{plug}:value", {}) == 7
    beside.forget([part])
    beside.forget([plug])
    assert resolve(f"{plug}:value", {}) == 8
    assert beside.executed()[part] == hashlib.sha256(b"value = 8\n").hexdigest()


def test_a_module_that_the_caller_has_imported_is_not_taken_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "part", ModuleType("part"))
    sys.modules["part"].__file__ = str(tmp_path / "part.py")
    (tmp_path / "plug.py").write_text("from part import value\n")
    (tmp_path / "part.py").write_text("value = 7\n")
    theirs = sys.modules["part"]
    assert resolve(f"{tmp_path / 'plug.py'}:value", {}) == 7 and sys.modules["part"] is theirs


@pytest.mark.parametrize(
    "line",
    [
        "jax.config.update('jax_enable_x64', False)",
        "jax.config.update('jax_default_matmul_precision', 'bfloat16')",
        "jax.config.update('jax_default_prng_impl', 'rbg')",
        "os.environ['XLA_FLAGS'] = '--xla_cpu_enable_fast_math=true'",
        "os.environ['JAX_ENABLE_X64'] = '0'",
        "import part",
    ],
)
def test_a_file_that_changes_how_jax_computes_is_refused(tmp_path: Path, line: str) -> None:
    flags, environment = dict(jax.config.values), dict(os.environ)
    (tmp_path / "part.py").write_text("import jax\njax.config.update('jax_enable_x64', False)\n")
    (tmp_path / "plug.py").write_text(f"import os\nimport jax\n{line}\nvalue = 1\n")
    for _ in range(2):  # also when it is tried again
        with pytest.raises(ConfigError, match=r"simulate.simulator: plug.py, or what it imports, sets .* take that"):
            resolve(f"{tmp_path / 'plug.py'}:value", {}, "simulate.simulator")
    assert (dict(jax.config.values), dict(os.environ)) == (flags, environment)


def test_a_file_may_ask_for_what_is_so_already(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text("import jax\njax.config.update('jax_enable_x64', True)\nvalue = 1\n")
    assert resolve(f"{tmp_path / 'plug.py'}:value", {}) == 1
