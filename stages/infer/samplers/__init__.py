"""Samplers, a file each with the same function: `sample(target, settings, progress) -> Draws`."""

from __future__ import annotations

from collections.abc import Callable

from simfer.stages.infer.samplers import auto, nuts, smc
from simfer.stages.infer.samplers.draws import Draws
from simfer.stages.infer.target import Target
from simfer.stages.progress import Progress
from simfer.stages.settings import Infer

Sampler = Callable[[Target, Infer, Progress], Draws]

SAMPLERS: dict[str, Sampler] = {
    "nuts": nuts.sample,
    "smc": smc.sample,
    "auto": auto.sample,
}
