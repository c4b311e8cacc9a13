"""How a best fit is looked for."""

from __future__ import annotations

from typing import Annotated

from simfer.stages.settings.fields import Count, Positive, Settings, Unit


class Fit(Settings):
    """How the parameters of highest posterior density are found."""

    num_starts: Annotated[Count, Unit("starts")] = 16
    """Searches through the emulator, from simulated rows that the data like and that lie far apart."""
    max_simulations: Annotated[Count, Unit("simulations")] = 12
    """Runs that correct the emulator where the best fit is, at most; one along each parameter beside them."""
    tolerance: Annotated[Positive, Unit("nats")] = 1e-3
    """Change of the log posterior density, by the simulator, at which the search ends."""
