"""An epidemic with a lockdown: susceptible, exposed, infectious, removed."""

import jax.numpy as jnp

from simfer import ODESimulator


class Lockdown(ODESimulator):
    """Cases that are reported, and deaths, each as what came since the last date on which they were counted."""

    parameters = {"R0": "", "kept": "", "infectious": "day", "infected": "", "reported": "", "fatality": ""}
    units = {"time": "day"}
    per_interval = ("cases", "deaths")

    population: float = 1e6
    day: float = 30.0  # of the lockdown: from then on a share `kept` of the contacts is left
    exposed: float = 3.0  # days before people are infectious
    illness: float = 14.0  # days from then to death

    def initial_state(self, p):
        start = {"s": self.population - 2.0 * p["infected"], "e": p["infected"], "i": p["infected"]}
        return start | dict.fromkeys(("ill", "cases", "deaths"), jnp.asarray(0.0))

    def jumps(self, p):
        return [self.day]

    def vector_field(self, t, y, p):
        number = p["R0"] * jnp.where(t < self.day, 1.0, p["kept"])
        infections = number / p["infectious"] * y["s"] * y["i"] / self.population
        onsets, ends, deaths = y["e"] / self.exposed, y["i"] / p["infectious"], y["ill"] / self.illness
        return {
            "s": -infections,
            "e": infections - onsets,
            "i": onsets - ends,
            "ill": p["fatality"] * ends - deaths,
            "cases": p["reported"] * onsets,
            "deaths": deaths,
        }

    def observe(self, t, y, p):
        return {"cases": y["cases"], "deaths": y["deaths"]}  # so far
