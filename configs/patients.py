"""Twenty patients from one population: what one of them does with a drug, and where all of them come from."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from simfer import FunctionSimulator, Output

HOURS = np.array([0.5, 1.0, 2.0, 4.0, 6.0, 9.0, 12.0, 24.0])
DOSES = jnp.asarray([100.0, 200.0] * 10)  # mg, patient by patient


class Patient(FunctionSimulator):
    """Concentration after a dose by mouth: one compartment, absorbed and cleared in proportion (Bateman 1910)."""

    parameters = {"ka": "1/h", "CL": "L/h", "V": "L", "dose": "mg"}

    def outputs(self):
        return {"concentration": Output(("time",), {"time": HOURS}, "mg/L")}

    def __call__(self, p):
        k = p["CL"] / p["V"]
        left = jnp.exp(-k * HOURS) - jnp.exp(-p["ka"] * HOURS)
        return {"concentration": p["dose"] * p["ka"] / (p["V"] * (p["ka"] - k)) * left}


def trial(simulate, data):
    """Say how clearance and volume vary between patients, and how their blood was measured."""
    ka = numpyro.sample("ka", dist.LogNormal(0.4, 0.3))
    CL_center = numpyro.sample("CL_center", dist.Normal(1.0, 0.5))  # of the logarithms,
    CL_spread = numpyro.sample("CL_spread", dist.HalfNormal(0.5))  # from patient to patient
    V_center = numpyro.sample("V_center", dist.Normal(3.4, 0.3))
    V_spread = numpyro.sample("V_spread", dist.HalfNormal(0.3))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.3))
    with numpyro.plate("patient", len(DOSES)):
        CL = numpyro.sample("CL", dist.LogNormal(CL_center, CL_spread))
        V = numpyro.sample("V", dist.LogNormal(V_center, V_spread))
    given = {"ka": jnp.full(len(DOSES), ka), "CL": CL, "V": V, "dose": DOSES}
    expected = jnp.maximum(simulate(given)["concentration"], 1e-6)  # patients x hours
    measured = jnp.stack([data[f"patient_{i + 1}"] for i in range(len(DOSES))])
    numpyro.sample("concentration", dist.LogNormal(jnp.log(expected), sigma), obs=measured)
