"""The data of configs that were simulated are what their script makes."""

from __future__ import annotations

import importlib.util

from tests.helpers import ROOT

DATA = ROOT / "data" / "observations"


def test_simulated_data_are_what_their_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("simulated", DATA / "simulated.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name, make in script.FILES.items():
        assert make() == (DATA / name).read_text(), name


def test_every_file_of_data_has_its_source() -> None:
    told = (DATA / "README.md").read_text()
    spanned = ("carotenoids_", "dose_")  # several files in one line
    for file in DATA.glob("*.csv"):
        assert f"`{file.name}`" in told or file.name.startswith(spanned), file.name
