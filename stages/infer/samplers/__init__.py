"""Samplers, a file each with the same function: `sample(target, starts, settings, progress) -> Draws`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from simfer.stages.infer.samplers import nuts
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.target import Target
from simfer.stages.progress import Progress
from simfer.stages.settings import Infer

Sampler = Callable[[Target, Float[np.ndarray, "chains size"], Infer, Progress], Draws]

SAMPLERS: dict[str, Sampler] = {
    "nuts": nuts.sample,
}
