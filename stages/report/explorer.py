"""The emulator to play with, in the page."""

from __future__ import annotations

from simfer.stages.report.material import Material


def explorer(material: Material) -> str:
    """Return nothing, yet."""
    return ""
