"""The pictures of a page, each with its caption and with words for who does not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simfer.stages.report.elements import figure, fold, number, paragraph, section
from simfer.stages.report.gallery import Gallery
from simfer.stages.report.material import Material
from simfer.stages.report.svg import inline

_MOST = 600_000  # characters of one picture: beyond, a page would be too large for a journal's supplement
_CAPTIONS = {
    "predictive": "Data on the intervals in which the posterior expects data, emulator's error and noise in them.",
    "maps": "Data over their plane, what the posterior expects there, and the difference in predicted sd.",
    "prior_posterior": "Each parameter's prior and posterior.",
    "posterior": "Posterior: every parameter, and every pair of the first ten.",
    "verdict": "How much of its limit each figure of the verdict uses up.",
    "trace": "Chains: densities and traces that lie over one another say that the sampler has converged.",
    "prior_predictive": "Fifty of the first runs over the data, before anything was inferred.",
    "design": "Where the simulator was run last, and how it ended there.",
}
_ORDER = ("predictive", "maps", "prior_posterior", "posterior")


def pictures(material: Material) -> tuple[str, str]:
    """Draw what can be drawn: what a reader looks at, and what is behind it."""
    folders = {stage: step.folder for stage, step in material.latest.items()}
    first = material.rounds.get(0, {})
    folders |= {"first": first["simulate"].folder} if "simulate" in first else {}
    gallery = Gallery(folders, material.problem)
    drawable = gallery.pictures
    drawn = {
        name: _drawn(number, name, drawable[name], _alt(name, material), material.problem.in_logs)
        for number, name in enumerate(_CAPTIONS)
        if name in drawable
    }
    shown = section("pictures", "Data and posterior", *(drawn[name] for name in _ORDER if name in drawn))
    behind = [fold(_CAPTIONS[name].partition(":")[0].rstrip("."), drawn[name]) for name in drawn if name not in _ORDER]
    return shown, section("behind", "Behind it", *behind)


def _drawn(count: int, name: str, draw: Any, alt: str, log: Sequence[str]) -> str:
    """Return a picture, or words where it could not be drawn: a page is there all the same."""
    try:
        svg = inline(count, alt, draw, log)
    except Exception as error:  # what is on disk may be of another version, or damaged
        return paragraph(f"The picture “{name}” could not be drawn: {type(error).__name__}: {error}", "note")
    if len(svg) > _MOST:
        return paragraph(f"The picture “{name}” is too large for a page; `simfer plots` writes it as a file.", "note")
    return figure(svg, _CAPTIONS[name])


def _alt(name: str, material: Material) -> str:
    """Say in words what a picture shows."""
    latest = material.latest
    if name in ("posterior", "prior_posterior", "trace") and "infer" in latest:
        rows = latest["infer"].table("posterior")
        told = "; ".join(f"{row['parameter']} {_interval(row)}" for row in rows[:12])
        return f"{_CAPTIONS[name]} Means and standard deviations: {told}."
    if name == "verdict" and "check" in latest:
        figures = latest["check"].table("verdict")
        told = "; ".join(
            f"{row['figure']} {number(row['value'])} ({row['limit']}) {'passes' if row['passed'] else 'FAILS'}"
            for row in figures
        )
        return f"{_CAPTIONS[name]} {told}."
    if name == "design" and "simulate" in latest:
        facts = latest["simulate"].facts
        return f"{_CAPTIONS[name]} {number(facts.get('rows'))} simulations, {number(facts.get('failed'))} failed."
    return _CAPTIONS[name]


def _interval(row: Mapping[str, Any]) -> str:
    return f"{number(row['mean'])} ± {number(row['sd'])} {row.get('unit', '')}".strip()
