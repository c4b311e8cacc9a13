"""How a run ended, in whatever words a table has it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from simfer.stages.model.outputs import Status

_WELL = {"", "0", "0.0", "ok", "success", "successful", "succeeded", "true", "done", "completed", "complete",
         "finished", "converged", "passed", "good"}  # fmt: skip
_OURS = {s.name.lower().replace("_", " "): s for s in Status} | {str(int(s)): s for s in Status}


def statuses(written: np.ndarray) -> Int[np.ndarray, " runs"]:
    """Return a `Status` for what stands in a column: 0 and "ok" went well; what is not known failed somehow."""
    known = {text: _status(text) for text in set(written.tolist())}
    return np.array([known[text] for text in written], np.int8)


def _status(text: str) -> Status:
    said = text.strip().lower().replace("_", " ").replace("-", " ") if text.strip()[:1] != "-" else text.strip()
    if said in _WELL:
        return Status.OK
    found = _OURS.get(said.removesuffix(".0"), Status.OTHER)
    return Status.OTHER if found == Status.PENDING else found
