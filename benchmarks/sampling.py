"""How fast does NUTS draw through the emulator, and how fast through the simulator itself?

    python benchmarks/sampling.py [CONFIG]

The same NUTS, priors, data and machine, one after the other: bulk ESS of the slowest parameter per second of sampling
(warm-up and compilation counted), and the cost of a simulation above which the emulator pays for its training.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from simfer.pipeline import config, runtime
from simfer.pipeline.progress import reporter
from simfer.pipeline.runner import execute_study
from simfer.pipeline.store import Store

DEFAULT = Path(__file__).parent.parent / "configs" / "lotka_volterra.toml"


def main() -> None:
    """Compare the two on one config."""
    runtime.prepare()
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    with tempfile.TemporaryDirectory() as folder:
        outcome = execute_study(
            config.load(path, []), Store(Path(folder)), "compare-posteriors", reporter=reporter(True)
        )
        for title, rows in outcome.summary["tables"].items():
            print(f"\n{title}\n| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
            for row in rows:
                print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
        print()
        for name, value in outcome.summary["facts"].items():
            print(f"{name.replace('_', ' ')}: {value:.4g}")


if __name__ == "__main__":
    main()
