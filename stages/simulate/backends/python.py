"""A Python function or class that is not JAX: SciPy, a library's wrapper, a lab's script."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from simfer.stages.settings.imports import closure
from simfer.stages.simulate.backends.row_by_row import RowByRow


class Python(RowByRow):
    """Rows of a function of named numbers, called in children that import it once each."""

    who: ClassVar[str] = "your function"

    def spec(self) -> dict[str, Any]:
        """Say which function it is, and with what it is called."""
        target = self.settings.simulator
        edited = Path(target.rpartition(":")[0]).stat().st_mtime_ns
        return {"kind": "python", "target": target, "options": self.settings.options, "dims": self.settings.dims,
                "vectors": self.settings.vectors, "experiments": self.settings.experiments,
                "each": self.settings.each, "edited": edited}  # fmt: skip

    def files(self) -> list[Path]:
        """List the function's file, those that it imports, and what else it is said to depend on."""
        return [*closure(Path(self.settings.simulator.rpartition(":")[0])), *super().files()]
