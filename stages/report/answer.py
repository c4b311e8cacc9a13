"""The answer: the verdict in words, with what was tested, and the posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from simfer.stages.report.elements import fold, items, number, paragraph, said, section, table
from simfer.stages.report.material import Material, Step

_MEANING = {
    "passed": "Draws of this posterior went through the simulator itself, and it bears them out. This says nothing of "
    "whether the simulator is right about nature; the posterior predictive p, one of the figures, says whether data "
    "like these are to be expected of it.",
    "failed": "The posterior is there, but do not publish it.",
    "unchecked": "This posterior has not been held against the simulator itself: nobody knows whether it is right.",
    "alone": "There is no simulator to hold this posterior against, but a table of finished runs alone. The figures "
    "below are those that need none: runs that no network saw, and what the emulator predicts.",
    "none": "There is no posterior yet.",
}
_CURE = " What helps: "  # before what is to be done, where a message says both
HEADLINE = {
    "passed": "Passed",
    "failed": "Failed",
    "unchecked": "Not checked",
    "alone": "Not checked",
    "none": "No posterior yet",
    "ended": "The run could not go on",
}


def state(material: Material) -> str:
    """Say in a word how the run stands."""
    if material.failure:
        return "ended"
    if material.passed is None and "check" in material.latest:
        return "alone"
    if material.passed is None:
        return "unchecked" if "infer" in material.latest else "none"
    return "passed" if material.passed else "failed"


def verdict(material: Material) -> str:
    """Write what a reader wants to know first."""
    word = state(material)
    parts = [f'<p class="headline {word}">{HEADLINE[word]}</p>']
    if material.failure:
        parts += _ended(material)
    else:
        parts.append(paragraph(_MEANING[word]))
    if "check" in material.latest:
        parts += _tested(material.latest["check"], earlier=material.failure is not None)
    parts.append(items(_warnings(material), "warnings"))
    return f'<section id="verdict" class="{word}">{"".join(parts)}</section>'


def posterior(material: Material) -> str:
    """Write the posterior's table."""
    if "infer" not in material.latest:
        return ""
    step = material.latest["infer"]
    rows = [
        {
            "parameter": row["parameter"],
            "unit": row.get("unit", ""),
            **{k: v for k, v in row.items() if k not in ("parameter", "unit")},
        }
        for row in step.table("posterior")
    ]
    facts = step.facts
    words = (
        f"{facts.get('chains', '?')} chains of {number(facts.get('draws'))} draws; intervals are equal-tailed "
        "(5 % to 95 %). R-hat near 1 and an ESS of hundreds say that the sampler has converged."
    )
    places = step.table("separate places")
    more = paragraph("The posterior lies in separate places:") + table(places) if places else ""
    return section("posterior", "Posterior", table(rows), paragraph(words, "note"), more)


def _ended(material: Material) -> list[str]:
    assert material.failure is not None
    lines = [line for line in material.failure.what.strip().splitlines() if line.strip()]
    # Of an exception in the user's code the last line says what it was; of ours the first says what to do.
    head = lines[-1] if lines and lines[0].startswith(("Traceback", "  File")) else (lines or [""])[0]
    reason, _, cure = head.partition(_CURE)
    parts = [paragraph(f"{material.failure.where}: {reason}", "reason")]
    parts += [_advice(cure)] if cure else []
    if len(lines) > 1:
        parts.append(fold("All that was said", f"<pre>{escape(material.failure.what)}</pre>", opened=len(lines) < 12))
    done = ", ".join(step.name for step in material.steps)
    after = f"Done before it, and kept: {done}." if done else "Nothing was done before it."
    parts.append(paragraph(f"{after} Mend what is said above and run the same command again: it goes on from there."))
    return parts


def _advice(text: str) -> str:
    return f'<p class="advice"><strong>What to do:</strong> {said(text)}</p>'


def _tested(step: Step, earlier: bool) -> list[str]:
    figures = step.table("verdict")
    failed = [row for row in figures if not row["passed"]]
    count = step.facts.get("simulations")
    words = f"Tested in round {step.round}, by {number(count)} runs of the simulator at posterior draws: "
    if step.facts.get("passed", False) is None:
        words = f"What can be told in round {step.round} without a simulator: "
    if earlier:
        words = f"What there is, of round {step.round}, was tested before by {number(count)} runs of the simulator: "
    words += (
        f"all {len(figures)} figures are within their limits."
        if not failed
        else f"{len(failed)} of {len(figures)} figures are beyond their limits: {_listed(failed)}."
    )
    parts = [paragraph(words)]
    advice = str(step.facts.get("verdict", "")).removeprefix("failed: ")
    if advice.startswith("not checked"):
        advice = advice.partition(". ")[2]
    if failed and advice:
        parts.append(_advice(advice))
    ordered = [*failed, *(row for row in figures if row["passed"])]
    return [*parts, fold("Every figure, with its limit", table(ordered), opened=bool(failed))]


def _listed(rows: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{row['figure']} is {number(row['value'])}, limit {row['limit']}" for row in rows)


def _warnings(material: Material) -> list[str]:
    """Return the warnings of the last round, and of the first simulations."""
    shown = {step.name: step for step in (*material.latest.values(), *material.rounds.get(0, {}).values())}
    return [f"{step.name}: {text}" for step in shown.values() for text in step.summary.get("warnings", [])]
