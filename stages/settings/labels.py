"""What pictures call a quantity."""

from __future__ import annotations

from simfer.stages.settings.derived import Derived
from simfer.stages.settings.priors import Prior


def labelled(name: str, quantity: Prior | Derived) -> str:
    """Return a quantity's label as mathematics, dollars about it or not, or its name; and its unit."""
    called = f"${quantity.label.strip('$')}$" if quantity.label else name
    return f"{called} [{quantity.unit}]" if quantity.unit else called
