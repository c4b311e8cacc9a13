"""What cannot be done with a random simulator."""

from __future__ import annotations

from simfer.stages.emulator.architectures.base import ClosedForm
from simfer.stages.emulator.scatter import MOST_OUTPUTS
from simfer.stages.errors import Mistake
from simfer.stages.model.outputs import Layout
from simfer.stages.preflight.words import resolved
from simfer.stages.settings import Problem
from simfer.stages.settings.names import ARCHITECTURES


def random_mistakes(config: Problem, layout: Layout) -> list[Mistake]:
    """List what cannot be done with a random simulator."""
    found = []
    make = resolved("train.architecture", config.train.architecture, ARCHITECTURES, ClosedForm, [])
    if make is not None:
        what = (
            f'the simulator is random, and "{config.train.architecture}" learns no scatter; take a network that is '
            "trained by descent (residual, mlp)"
        )
        found.append(Mistake("train.architecture", what))
    if layout.size > MOST_OUTPUTS:
        what = (
            f"the simulator is random and gives {layout.size} values, of which the emulator learns a covariance; "
            f"expected at most {MOST_OUTPUTS}: observe at fewer times, or fewer outputs"
        )
        found.append(Mistake("simulate.options", what))
    if config.simulate.cost is not None:
        what = (
            "the simulator is random: how it scatters takes more runs than this would choose; say num_simulations, "
            "check.num_draws and refine.simulations_per_round, and leave cost out"
        )
        found.append(Mistake("simulate.cost", what))
    if config.infer.likelihood == "simulator":
        what = "the simulator is random, so that nobody knows its likelihood: it cannot stand in the emulator's place"
        found.append(Mistake("infer.likelihood", what))
    if config.check.reweight:
        what = "the simulator is random: nobody knows its likelihood, which the weights would be made of; leave it out"
        found.append(Mistake("check.reweight", what))
    if config.dataset.pca:
        what = "the simulator is random: its scatter is learned as a covariance of the values themselves; leave pca out"
        found.append(Mistake("dataset.pca", what))
    if config.refine.keep is not None and config.simulate.cost is None:  # by which it is chosen
        what = (
            "the simulator is random: rows chosen by an output that chance had a part in would teach the emulator too "
            "small a scatter; leave keep out"
        )
        found.append(Mistake("refine.keep", what))
    return found
