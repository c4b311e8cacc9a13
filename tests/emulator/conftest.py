"""What tests of the commands on an emulator share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import helpers


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a config file of the linear problem, whose emulator is in the store of `line_run`."""
    helpers.line_run(until="train")
    file = tmp_path_factory.mktemp("predict") / "line.toml"
    sections = []
    for name, table in helpers.line().items():
        if name == "noise":
            sections.append(f"[noise.y]\n{_keys(table['y'])}")
        else:
            sections.append(f"[{name}]\n{_keys(table)}")
    file.write_text("\n".join(sections))
    return file


def _keys(table: dict[str, Any]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)
