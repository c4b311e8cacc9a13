"""Arrays by name, which say what there is where a name is wrong."""

from __future__ import annotations

from typing import Any

from simfer.stages.errors import ConfigError, Mistake, did_you_mean
from simfer.stages.infer.own_model.whitening import WHERE


class Named(dict[str, Any]):
    """A table for the user's model."""

    def __init__(self, what: str, values: dict[str, Any]) -> None:
        """Call the table `what` in messages."""
        super().__init__(values)
        self._what = what

    def __missing__(self, name: object) -> Any:
        """Say which names there are."""
        what = f'{self._what}["{name}"]: no such name; expected one of {", ".join(self)}.'
        raise ConfigError([Mistake(WHERE, what + did_you_mean(str(name), list(self)))])
