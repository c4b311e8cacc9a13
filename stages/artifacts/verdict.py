"""A verdict, in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simfer.stages import markup
from simfer.stages.artifacts.figures import TABLE, Figure, judge, stored

VERDICT = "verdict.json"


@dataclass(frozen=True, repr=False)
class Verdict:
    """What the true simulator says of a posterior; the value of a figure that could not be computed is None."""

    figures: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Verdict:
        """Read a published verdict."""
        return cls(json.loads((Path(folder) / VERDICT).read_text()))

    def held_against(self, limits: Mapping[str, float]) -> Verdict:
        """Return the verdict by other thresholds, given by their keys in a config."""
        rows = self.figures.get("figures", [])
        summary = {"facts": self.figures, "tables": {TABLE: rows}, "said": self.figures.get("said", {})}
        facts = judge(summary, limits)["facts"]
        rows = [stored(Figure.from_row(row).held_against(limits).row()) for row in rows]
        return Verdict({**self.figures, "passed": facts["passed"], "verdict": facts["verdict"], "figures": rows})

    @property
    def passed(self) -> bool:
        """Whether every figure is within its threshold; False where there was no simulator to check by."""
        return bool(self.figures["passed"])

    @property
    def checked(self) -> bool:
        """Whether there was a simulator to hold the posterior against."""
        return self.figures["passed"] is not None

    def __repr__(self) -> str:
        lines = [
            f"  {name}: {value}, limit {limit}{'' if good == 'yes' else ': FAILED'}"
            for name, value, limit, good in self._rows()
        ]
        return "\n".join([f"Verdict: {self._said}", *lines])

    def _repr_html_(self) -> str:
        columns = ("figure", "value", "limit", "passed")
        return f"<div>{markup.headline(self._said, self.passed)}{markup.table(columns, self._rows())}</div>"

    @property
    def _said(self) -> str:
        return str(self.figures.get("verdict", "passed" if self.passed else "failed"))

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        for each in self.figures.get("figures", ()):
            value = "not computed" if each["value"] is None else f"{each['value']:.4g}"
            limit = f"{'≥' if each['larger_is_better'] else '≤'} {each['threshold']:g}"
            yield each["figure"], value, limit, "yes" if each["passed"] else "no"
