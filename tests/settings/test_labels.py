"""What pictures call a quantity."""

from __future__ import annotations

import pytest

from simfer.stages.settings import Derived, Prior
from simfer.stages.settings.labels import labelled


@pytest.mark.parametrize("label", [r"\alpha", r"$\alpha$"])
def test_a_label_is_mathematics_with_dollars_about_it_or_without(label: str) -> None:
    assert labelled("a", Prior(dist="Normal", label=label, unit="1/day")) == r"$\alpha$ [1/day]"
    assert labelled("a", Derived(formula="b", label=label)) == r"$\alpha$"


def test_a_quantity_without_a_label_goes_by_its_name() -> None:
    assert labelled("a", Prior(dist="Normal", unit="m")) == "a [m]" and labelled("a", Prior(dist="Normal")) == "a"
