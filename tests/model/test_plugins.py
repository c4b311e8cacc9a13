"""Names from a table, and from files that the user typed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from simfer.stages.errors import ConfigError
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
