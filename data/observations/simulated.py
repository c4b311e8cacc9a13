"""Make the data of configs whose data are simulated for them: python data/observations/simulated.py [FOLDER].

Solved by SciPy, at tolerances far below the noise; what is random is NumPy's, seeded by file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

FOLDER = Path(__file__).parent
LIMIT = 0.15  # mg/L, below which no concentration can be told
TOLERANCES = {"rtol": 1e-9, "atol": 1e-9}


def two_compartments() -> str:
    """Simulate a drug in the blood, 200 mg swallowed every 12 hours, six times."""
    uptake, clearance, central, flow, peripheral = 0.9, 6.0, 25.0, 4.0, 60.0  # 1/h, L/h, L, L/h, L

    def change(t: float, y: Any) -> list[float]:
        gut, blood, tissue = y
        into = flow * (blood / central - tissue / peripheral)
        return [-uptake * gut, uptake * gut - clearance * blood / central - into, into]

    times = [0.5, 1, 2, 4, 8, 12, 24, 36, 48, 60.5, 61, 62, 64, 68, 72, 84, 96, 108, 120, 132, 144, 168]
    rng, rows, y, now = np.random.default_rng(1972), [], np.zeros(3), 0.0
    for at, is_dose in sorted([(t, False) for t in times] + [(12.0 * k, True) for k in range(6)]):
        if at > now:
            y, now = solve_ivp(change, (now, at), y, "LSODA", **TOLERANCES).y[:, -1], at
        if is_dose:  # a sample at the time of a dose is taken before it
            y = y + [200.0, 0.0, 0.0]
            continue
        sd = float(f"{np.hypot(0.02, 0.08 * y[1] / central):.3f}")
        drawn = y[1] / central + sd * rng.normal()
        rows.append(f"{at:g},{f'<{LIMIT}' if drawn < LIMIT else f'{drawn:.3f}'},{sd}")
    return "\n".join(["time,concentration,sd", *rows, ""])


def epidemic() -> dict[str, np.ndarray]:
    """Solve an epidemic with a lockdown on day 30: cases that are reported, and deaths, so far, day by day."""
    numbers, infectious, infected, reported, fatality = (2.8, 0.8), 5.0, 60.0, 0.3, 0.01

    def change(t: float, y: Any) -> list[float]:
        s, e, i, ill, *_ = y
        infections = numbers[t >= 30.0] / infectious * s * i / 1e6
        onsets, ends, deaths = e / 3.0, i / infectious, ill / 14.0
        return [-infections, infections - onsets, onsets - ends, fatality * ends - deaths, reported * onsets, deaths]

    y, days = np.array([1e6 - 2.0 * infected, infected, infected, 0.0, 0.0, 0.0]), np.arange(120.0)
    before = solve_ivp(change, (0, 30.0 - 1e-9), y, "LSODA", days[:30], **TOLERANCES).y
    y = solve_ivp(change, (0, 30.0 - 1e-9), y, "LSODA", [30.0 - 1e-9], **TOLERANCES).y[:, -1]
    after = solve_ivp(change, (30.0, 119.0), y, "LSODA", days[30:], **TOLERANCES).y
    return dict(zip(("cases", "deaths"), np.concatenate([before, after], axis=1)[-2:], strict=True))


def weekly(name: str, first: int, seed: int) -> str:
    """Count what came in weeks that end on day `first`, a week later, and so on; day 0 is 1 March 2020, a Sunday."""
    rng, ends = np.random.default_rng(seed), np.arange(first, 120, 7)
    expected = np.diff(epidemic()[name][ends], prepend=0.0)
    concentration = 20.0
    counts = rng.poisson(expected * rng.gamma(concentration, 1.0 / concentration, len(ends)))
    rows = [f"{date(2020, 3, 1) + timedelta(int(end))},{n}" for end, n in zip(ends, counts, strict=True)]
    return "\n".join([f"date,{name}", *rows, ""])


def plate(dose: float, seed: int) -> str:
    """Count cells in three wells of a plate, every twelve hours, under a drug that slows growth or kills."""
    growth, effect, half, slope, seeded = 0.045, 1.4, 0.6, 1.5, 1000.0  # 1/h, times the growth, uM, -, cells
    rng, rows = np.random.default_rng(seed), []
    rate = growth * (1.0 - effect * dose**slope / (half**slope + dose**slope))
    start = seeded * np.exp(0.1 * rng.normal())
    for hours in (12, 24, 36, 48, 72):
        cells = start * np.exp(rate * hours + 0.08 * rng.normal(size=3))
        rows += [f"{hours},{n:.0f}" for n in cells]
    return "\n".join(["time,cells", *rows, ""])


def vessels() -> str:
    """Measure the yeast in four vessels, whose rates differ by ten per cent."""
    rng, hours = np.random.default_rng(1914), np.arange(0.0, 19.0, 2.0)
    rates, capacity, start = rng.lognormal(-0.65, 0.1, 4), rng.normal(660.0, 15.0, 4), rng.lognormal(2.2, 0.1, 4)
    grown = capacity / (1.0 + (capacity / start - 1.0) * np.exp(-rates * hours[:, None]))  # Verhulst's curve
    measured = grown + 5.0 * rng.normal(size=grown.shape)
    rows = [f"{t:g}," + ",".join(f"{n:.1f}" for n in row) for t, row in zip(hours, measured, strict=True)]
    return "\n".join(["time," + ",".join(f"vessel_{i}" for i in range(1, 5)), *rows, ""])


def patients() -> str:
    """Measure a drug in the blood of twenty patients, who were given 100 or 200 mg; the error is in proportion."""
    rng, hours = np.random.default_rng(3), np.array([0.5, 1.0, 2.0, 4.0, 6.0, 9.0, 12.0, 24.0])
    clearance, volume = np.exp(1.1 + 0.35 * rng.normal(size=20)), np.exp(3.4 + 0.2 * rng.normal(size=20))
    absorbed, dose = 1.5, np.tile([100.0, 200.0], 10)  # 1/h, mg
    k = clearance / volume
    left = np.exp(-np.outer(k, hours)) - np.exp(-absorbed * hours)
    expected = (dose * absorbed / (volume * (absorbed - k)))[:, None] * left  # Bateman's curve (1910)
    measured = expected * np.exp(0.15 * rng.normal(size=expected.shape))
    rows = [f"{t:g}," + ",".join(f"{n:.5g}" for n in row) for t, row in zip(hours, measured.T, strict=True)]
    return "\n".join(["time," + ",".join(f"patient_{i}" for i in range(1, 21)), *rows, ""])


FILES: dict[str, Callable[[], str]] = {
    "patients.csv": patients,
    "vessels.csv": vessels,
    "two_compartments.csv": two_compartments,
    "lockdown_cases.csv": lambda: weekly("cases", 7, 1927),
    "lockdown_deaths.csv": lambda: weekly("deaths", 5, 1928),
    "dose_0.csv": lambda: plate(0.0, 1910),
    "dose_0.1.csv": lambda: plate(0.1, 1911),
    "dose_1.csv": lambda: plate(1.0, 1912),
    "dose_10.csv": lambda: plate(10.0, 1913),
}


def main() -> None:
    """Write every file."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, make in FILES.items():
        (folder / name).write_text(make())


if __name__ == "__main__":
    main()
