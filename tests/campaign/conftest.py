"""How much is tried: a few cases beside the other tests, or the whole."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


@pytest.fixture(params=[pytest.param(False, id="twin"), pytest.param(True, id="whole", marks=pytest.mark.campaign)])
def cases(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Return which of two numbers of cases to try; SIMFER_CAMPAIGN=0.1 makes the whole a tenth of it."""
    share = float(os.environ.get("SIMFER_CAMPAIGN", "1"))
    return lambda twin, whole: max(1, round(whole * share)) if request.param else twin
