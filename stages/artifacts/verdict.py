"""A verdict, in a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERDICT = "verdict.json"


@dataclass(frozen=True)
class Verdict:
    """What the true simulator says of a posterior; the value of a figure that could not be computed is None."""

    figures: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Verdict:
        """Read a published verdict."""
        return cls(json.loads((Path(folder) / VERDICT).read_text()))

    @property
    def passed(self) -> bool:
        """Whether every figure is within its threshold."""
        return bool(self.figures["passed"])
