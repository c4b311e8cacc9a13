"""A model behind UM-Bridge 1.0 (Seelinger et al. 2023), evaluated over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from simfer.stages.model.space import Space
from simfer.stages.settings import Simulate
from simfer.stages.simulate.backends.row_by_row import RowByRow


class Http(RowByRow):
    """Rows of a server; each worker keeps a connection of its own."""

    who: ClassVar[str] = "the server's model"

    def __init__(self, settings: Simulate, space: Space) -> None:
        super().__init__(settings, space)
        assert settings.server is not None

    def spec(self) -> dict[str, Any]:
        """Say where the model is, and what its vectors hold."""
        assert self.settings.server is not None
        more = {"address": self.settings.simulator, "free": self.space.names, "derivatives": self.settings.derivatives}
        return self.settings.server.model_dump() | {"kind": "http", **more}
