"""A chain of stages that are instant and need no JAX, to test the machinery with; `python -m tests.fakes` is its CLI.

What the environment says happens to it: FAKE_LOG is a file that gets a line for each thing computed, FAKE_PAUSE the
seconds that each takes, FAKE_PASSES the first round whose verdict is good, FAKE_ESS the share of the draws that is
effective, FAKE_FAIL the step that cannot go on, FAKE_KILL the moment at which the process kills itself, as by kill -9,
FAKE_STUCK where it is deaf to signals.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simfer.pipeline import chain, stopping, store
from simfer.pipeline.chain import Link
from simfer.stages.artifacts.figures import Figure, in_words

ROOT = Path(__file__).resolve().parents[1]
NUM_SHARDS = 4

CONFIG = """
[parameters]
alpha = { dist = "Normal", loc = 1.0, scale = 0.5 }
beta = 2.0
[simulate]
simulator = "my_model.py:Model"
num_simulations = 64
[observation]
file = "data.csv"
[noise.x]
dist = "Normal"
scale = 0.1
"""


def write_project(folder: Path) -> Path:
    """Write a config and the files that it names; return the config."""
    (folder / "my_model.py").write_text("import helper\n\nclass Model: ...\n")
    (folder / "helper.py").write_text("value = 1\n")
    (folder / "unrelated.py").write_text("value = 1\n")
    (folder / "data.csv").write_text("time,x\n0,1\n")
    (folder / "problem.toml").write_text(CONFIG)
    return folder / "problem.toml"


def run_stage(
    link: Link, inputs: Mapping[str, Sequence[Path]], folder: Path, progress: Any, failed: Mapping[str, str]
) -> dict[str, Any]:
    """Stand in for every stage: its files depend on its config and on what it reads, and on nothing else."""
    say(link.name)
    _stuck(os.environ.get("FAKE_STUCK"), progress)
    if os.environ.get("FAKE_FAIL") == link.name:
        raise chain.StageError("too many rows")
    if link.stage == "simulate":
        _simulate(link, folder, progress)
    else:
        read = "".join(digest(path) for paths in inputs.values() for path in paths)
        _die("stage")
        (folder / "nested").mkdir(exist_ok=True)
        (folder / "nested" / "out.txt").write_text(
            f"{link.config.model_dump_json()}\n{read}\nfailed: {json.dumps(failed)}\n"
        )
        time.sleep(_pause())
    facts = {"passed": link.round >= int(os.environ.get("FAKE_PASSES", "0")), "loss": float("nan")}
    tables = {"a table": [{"name": "alpha", "mean": 1.25, "ok": True}]}
    summary: dict[str, Any] = {"facts": facts, "tables": tables, "warnings": [], "pictures": ["plot.png"]}
    return summary | {"infer": _draw, "check": _check}.get(link.stage, lambda *_: {})(link, folder, facts)


def _draw(link: Link, folder: Path, facts: Any) -> dict[str, Any]:
    """Go on with chains, and hand over the first draws."""
    chains, asked = folder / "chains.npz", link.config.infer.num_samples  # type: ignore[attr-defined]
    done = int(chains.read_text()) if chains.exists() else 0
    count(f"draws {max(asked - done, 0)}")
    half = folder / "chains.npz.partial"  # a full disk may come between a file's name and its text
    half.write_text(str(max(asked, done)))
    half.replace(chains)
    rest = link.config.model_copy(update={"infer": link.config.infer.model_copy(update={"num_samples": 0})})  # type: ignore[attr-defined]
    return {"handed": hashlib.sha256(f"{rest.model_dump_json()}{min(asked, 1000)} {link.round}".encode()).hexdigest()}


def _check(link: Link, folder: Path, facts: Any) -> dict[str, Any]:
    """Simulate, and hold two figures against their thresholds: the emulator's, and a share of the draws as the ESS."""
    (folder / "simulations.zarr").mkdir(exist_ok=True)
    if not (rows := folder / "simulations.zarr" / "rows.txt").exists():
        count("shard of a check")
        rows.write_text(f"{link.config.simulate.model_dump_json()}{link.round}")  # type: ignore[attr-defined]
    ess = float(os.environ.get("FAKE_ESS", "1")) * link.config.infer.num_samples  # type: ignore[attr-defined]
    figures = [
        Figure("Pareto k-hat", "emulator", 0.1 if facts["passed"] else 0.9, 0.7),
        Figure("smallest ESS, bulk or tail", "sampler", ess, 400.0, True),
    ]
    passed = all(figure.passed for figure in figures)
    said = {"passed": passed, "verdict": in_words(figures)}
    return {"facts": facts | said, "tables": {"verdict": [figure.line() for figure in figures]}}


def write_report(material: Mapping[str, Any], file: Path) -> None:
    """Stand in for the page: what it would be made of."""
    file.parent.mkdir(parents=True, exist_ok=True)
    steps = [step["name"] for step in material["steps"]]
    file.write_text(json.dumps({"name": material["name"], "steps": steps, "failure": material["failure"]}))


def prior_predictive(problem: Any, simulations: Path, file: Path) -> dict[str, Any]:
    """Stand in for runs over the data."""
    return {"facts": {}, "warnings": ["x: 1 of 1 data lie beyond all runs"], "pictures": [file.name]}


def _simulate(link: Link, folder: Path, progress: Any) -> None:
    with progress.task("simulate", total=NUM_SHARDS, unit="shards") as task:
        for i in range(NUM_SHARDS):
            shard = folder / f"shard-{i}.txt"
            if not shard.exists():
                say(f"shard {i}")
                time.sleep(_pause())
                shard.write_text(hashlib.sha256(f"{link.config.model_dump_json()}{i}".encode()).hexdigest())
            task.advance(1, failed=0)
            if i == 1:
                _die("stage")


def entries(fingerprint: str, stage: str = "train") -> dict[str, Any]:
    """Return what a manifest says of an artifact that no stage has made."""
    return {
        "stage": stage,
        "round": 0,
        "fingerprint": fingerprint,
        "key": {"stage": stage, "version": 1, "config": {}, "inputs": {}},
        "summary": {"facts": {"x": float("inf")}},
        "versions": {"python": "3.11"},
        "device": "none",
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:01+00:00",
        "seconds": 1.0,
        "revision": None,
    }


def digest(folder: Path) -> str:
    """Return a digest of all that a stage wrote into a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def say(text: str) -> None:
    """Note that something was computed."""
    if "FAKE_LOG" in os.environ:
        with open(os.environ["FAKE_LOG"], "a") as log:
            log.write(text + "\n")


def count(text: str) -> None:
    """Note what a stage beyond the first did in detail, where FAKE_COUNTS asks for it."""
    if "FAKE_COUNTS" in os.environ:
        say(text)


def has_begun(name: str) -> bool:
    """Say whether a process is at a step; the log stays, since a line that is being written would be lost with it."""
    log = Path(os.environ["FAKE_LOG"])
    return log.exists() and name in log.read_text().splitlines()


def said() -> list[str]:
    """Return what was computed since this was last asked."""
    log = Path(os.environ["FAKE_LOG"])
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def simfer(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line on the fake chain in a process of its own."""
    command = process(*arguments, **environment)
    return subprocess.run(**command, text=True, capture_output=True, timeout=300, check=False)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, which must end well."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, text=True, capture_output=True, check=True)


def process(*arguments: str | Path, **environment: str) -> dict[str, Any]:
    """Return what subprocess needs to start that process."""
    command = [sys.executable, "-m", "tests.fakes", *map(str, arguments)]
    return {"args": command, "cwd": ROOT, "env": os.environ | environment}


def _stuck(how: str | None, progress: Any) -> None:
    """Be where Control-C does not reach: in a callback that loses it, or in machine code, which Python waits for."""
    if how == "callback":
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(60)
        progress.note("going on")
        time.sleep(60)
    if how == "machine code":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)


def _pause() -> float:
    return float(os.environ.get("FAKE_PAUSE", "0"))


def _die(moment: str) -> None:
    if os.environ.get("FAKE_KILL") == moment:
        os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """Put the fake chain in the place of the real one."""
    swap_in = store.Workplace._swap_in

    def _dying_swap_in(self: store.Workplace) -> None:
        _die("publish")
        swap_in(self)

    chain.run = run_stage
    chain.mistakes = lambda problem, **_: []
    chain.write_report = write_report
    chain.prior_predictive = prior_predictive
    store.Workplace._swap_in = _dying_swap_in  # type: ignore[method-assign]


if __name__ == "__main__":
    from simfer.pipeline.cli import main

    # What a script runs in the background is deaf to Control-C, by nohup to a hangup, and hands that on to the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stopping.SECONDS = 0.5
    install()
    main()
