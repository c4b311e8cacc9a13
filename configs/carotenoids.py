"""Cleavage of carotenoids by the enzyme AtCCD4 (Bruno et al. 2016), from one of five compounds."""

import jax.numpy as jnp

from simfer import ODESimulator


class Carotenoids(ODESimulator):
    """Rates of cleavage from one compound to the next; an experiment begins with `amount` of one of them.

    beta-carotene (bcar) and beta-cryptoxanthin (bcry) are cut to beta-10 and OH-beta-10 apocarotenals, zeaxanthin to
    the latter. In assays with less of the enzyme all rates are `szea` times as fast.
    """

    parameters = {
        "amount": "",
        "k5": "1/min",
        "kb1": "1/min",
        "kb2": "1/min",
        "kc1": "1/min",
        "kc2": "1/min",
        "kc4": "1/min",
        "szea": "",
    }
    units = {"time": "min"}

    compound: str = "bcar"
    slower: bool = False

    def initial_state(self, p):
        start = dict.fromkeys(("bcar", "b10", "bcry", "ohb10", "zea"), jnp.asarray(0.0))
        return start | {self.compound: p["amount"]}

    def vector_field(self, t, y, p):
        pace = p["szea"] if self.slower else 1.0
        return {
            "bcar": -pace * p["kb1"] * y["bcar"],
            "b10": pace * (p["kb1"] * y["bcar"] - p["kb2"] * y["b10"] + p["kc1"] * y["bcry"]),
            "bcry": -pace * (p["kc1"] + p["kc2"]) * y["bcry"],
            "ohb10": pace * (p["kc2"] * y["bcry"] - p["kc4"] * y["ohb10"] + p["k5"] * y["zea"]),
            "zea": -pace * p["k5"] * y["zea"],
        }

    def observe(self, t, y, p):
        return y
