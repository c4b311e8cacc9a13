"""The account of a run: emulator and solver error, rounds and what each cost, failures, and how to do it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simfer.stages.report.citation import bibtex, sentence
from simfer.stages.report.elements import duration, fold, items, listing, paragraph, section, table
from simfer.stages.report.material import Material, Step

_STAGES = ("simulate", "dataset", "train", "infer", "check")


def errors(material: Material) -> str:
    """Write what is known of the emulator's error, and of the solver's."""
    parts = []
    if "train" in material.latest:
        facts = material.latest["train"].facts
        parts += [paragraph(f"Emulator: {_network(facts)}. On simulations that it has not seen:")]
        parts += [table(material.latest["train"].table("held-out error"))]
    if "check" in material.latest:
        check = material.latest["check"]
        titles = [
            title
            for title in check.summary.get("tables", {})
            if title not in ("verdict",) and "draws that" not in title
        ]
        for title in titles:
            parts += [paragraph(f"{title[:1].upper()}{title[1:]}:"), table(check.table(title))]
        solver = [row for row in check.table("verdict") if "numerical error" in str(row["figure"])]
        parts += [paragraph("The simulator's own numerical error, in the same units:"), table(solver)] if solver else []
    if "infer" in material.latest and (shares := material.latest["infer"].table("emulator error")):
        parts += [
            paragraph("The emulator's error is a part of the likelihood, with this share of the variance:"),
            table(shares),
        ]
    return section("errors", "Emulator and solver error", *parts)


def _network(facts: Mapping[str, Any]) -> str:
    members = facts.get("members")
    named = f"{members} × {facts.get('architecture', '?')}" if members else str(facts.get("architecture", "?"))
    return f"{named}, {facts['weights']:,} weights each" if members and "weights" in facts else named


def rounds(material: Material) -> str:
    """Write what each round did and what it cost."""
    rows = [_round(number, steps) for number, steps in material.rounds.items()]
    seconds = sum(step.seconds for step in material.steps)
    simulated = f"{material.num_simulations:,} runs of the simulator in all, those of the checks counted"
    said = f"{simulated}; {duration(seconds)} of computing."
    return section("rounds", "Rounds, and what each cost", paragraph(said), table(rows)) if rows else ""


def _round(number: int, steps: Mapping[str, Step]) -> dict[str, Any]:
    simulate, check = (steps[stage].facts if stage in steps else {} for stage in ("simulate", "check"))
    told = {True: "passed", False: "failed"}.get(check.get("passed"), "–")  # type: ignore[arg-type]
    row: dict[str, Any] = {
        "round": str(number),
        "simulations": int(simulate.get("rows", 0)),
        "failed": simulate.get("failed"),
        "checked": check.get("simulations"),
        "verdict": told,
    }
    return row | {stage: duration(steps[stage].seconds) if stage in steps else "–" for stage in _STAGES}


def failures(material: Material) -> str:
    """Write how simulations failed, and what was told of it."""
    parts = []
    for step in material.steps:
        failed = step.facts.get("failed") or 0
        if step.stage != "simulate" or not failed:
            continue
        parts.append(paragraph(f"{step.name}: {failed:,} of {step.facts.get('rows', 0):,} simulations failed."))
        parts += [paragraph(title, "note") + table(rows) for title, rows in step.summary.get("tables", {}).items()]
    unsolved = material.latest["check"].table("draws that") if "check" in material.latest else []
    if unsolved:
        parts += [
            paragraph("Posterior draws that the simulator cannot solve (the first few):"),
            table(unsolved, whole=True),
        ]
    if not parts and any(step.stage == "simulate" for step in material.steps):
        parts = [paragraph("No simulation failed.")]
    return section("failures", "Failures", *parts)


def source(material: Material) -> str:
    """Write the config, the code and the data as they were run."""
    parts = [fold("The config", listing(material.config), opened=False)]
    if material.overrides:
        parts.append(paragraph("Set on the command line, over the config: " + ", ".join(material.overrides)))
    parts += [fold(name, listing(text)) for name, text in material.code.items()]
    parts += [fold(name, listing(_beginning(text))) for name, text in material.data.items()]
    return section("source", "Config, code and data as run", *parts)


def _beginning(text: str, most: int = 20000) -> str:
    return text if len(text) <= most else f"{text[:most]}\n... and {len(text) - most:,} characters more"


def reproduction(material: Material) -> str:
    """Write the versions, the device, and how to get the same numbers again."""
    kept = [
        {"step": step.name, "fingerprint": step.fingerprint, "device": step.device, "finished": step.finished}
        for step in material.steps
    ]
    versions: dict[str, str] = {}
    for step in material.steps:
        versions |= step.versions
    overrides = "".join(f" --set '{each}'" for each in material.overrides)
    said = [
        f"Run `simfer run {material.name}.toml{overrides}` beside the same code and data: on the same device with the "
        "same versions it makes the same numbers.",
        "A fingerprint is a digest of all that a step depends on: config, code, data, and the steps before it.",
    ]
    if material.revision:
        said.append(f"The config's folder was at the git revision {material.revision}.")
    return section(
        "reproduce",
        "To reproduce and to cite",
        items(said),
        table([{"library": name, "version": version} for name, version in versions.items()]),
        fold("Every step", table(kept)) if kept else "",
        paragraph(sentence(material)) if "infer" in material.latest else "",
        fold("References in BibTeX", listing(bibtex(material.problem, material.simfer))),
    )
