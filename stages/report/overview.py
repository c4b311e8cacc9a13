"""The page of several runs of one project: how each stands, what changed between their configs, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from simfer.stages import plots
from simfer.stages.report import answer
from simfer.stages.report.elements import duration, figure, number, paragraph, section, table
from simfer.stages.report.gallery import Gallery
from simfer.stages.report.material import Material
from simfer.stages.report.page import framed, put
from simfer.stages.report.svg import inline

_MOST = 80  # letters of a setting's value
_CAPTION = "Marginal posteriors of the parameters that more than one run has."


def write(runs: Sequence[Material], pages: Mapping[str, str], file: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        runs: What is there of each run, the one that the others are held against first.
        pages: Where each run's own page lies, as seen from this one, by the run's name; of those that have one.
        file: The page's file.
    """
    put(file, render(runs, pages))


def render(runs: Sequence[Material], pages: Mapping[str, str]) -> str:
    """Return the page."""
    body = (
        section("runs", "Runs", _stand(runs, pages)),
        section("changed", "What changed between the configs", _changed(runs)),
        section("posteriors", "Posteriors", _posteriors(runs), _picture(runs)),
        section("figures", "Figures of the verdicts", _figures(runs)),
    )
    anchors = {"runs": "Runs", "changed": "Configs", "posteriors": "Posteriors", "figures": "Figures"}
    return framed(f"{len(runs)} runs", "".join(body), anchors, f"Simfer {runs[0].simfer}")


def _stand(runs: Sequence[Material], pages: Mapping[str, str]) -> str:
    rows = []
    for run in runs:
        facts = run.latest["infer"].facts if "infer" in run.latest else {}
        rows.append(
            {
                "run": run.name,
                "verdict": answer.HEADLINE[answer.state(run)],
                "rounds": len(run.rounds) or None,
                "runs_of_the_simulator": run.num_simulations,
                "log_evidence": facts.get("log_evidence"),
                "computing": duration(sum(step.seconds for step in run.steps)),
                "finished": max((step.finished for step in run.steps), default="")[:16].replace("T", " "),
            }
        )
    links = [f'<a href="{escape(pages[run.name])}">{escape(run.name)}</a>' for run in runs if run.name in pages]
    return table(rows) + (f"<p>Pages of their own: {', '.join(links)}</p>" if links else "")


def _changed(runs: Sequence[Material]) -> str:
    each = [dict(_flat(run.problem.model_dump(mode="json", exclude_defaults=True))) for run in runs]
    keys = sorted(set().union(*each))
    rows: list[dict[str, Any]] = []
    for key in keys:
        values = [_short(settings.get(key)) for settings in each]
        if len(set(values)) > 1:
            rows.append({"setting": key} | dict(zip((run.name for run in runs), values, strict=True)))
    same = f"{len(keys) - len(rows)} settings are the same in all of them."
    return (
        (table(rows, whole=True) + paragraph(same, "note"))
        if rows
        else paragraph("Nothing: their configs say the same.")
    )


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{at}.{key}" if at else str(key))
    else:
        yield at, value


def _short(value: Any) -> str:
    text = "–" if value is None else str(value)
    text = Path(text).name if Path(text).is_absolute() else text  # a file, wherever it lies on this machine
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"


def _posteriors(runs: Sequence[Material]) -> str:
    told = {run.name: {row["parameter"]: row for row in _rows(run, "infer", "posterior")} for run in runs}
    names = list(dict.fromkeys(name for rows in told.values() for name in rows))
    rows = []
    for name in names:
        row: dict[str, Any] = {"parameter": name}
        first = told[runs[0].name].get(name)
        for run in runs:
            if (mine := told[run.name].get(name)) is None:
                continue
            row[run.name] = f"{number(mine['mean'])} ± {number(mine['sd'])}"
            if first and run is not runs[0] and first["sd"]:
                row[f"{run.name}, shift"] = float((mine["mean"] - first["mean"]) / first["sd"])
        rows.append(row)
    words = f"Means ± standard deviations. A shift is that of a mean, in standard deviations of {runs[0].name}."
    return (table(rows, whole=True) + paragraph(words, "note")) if rows else ""


def _rows(run: Material, stage: str, title: str) -> Sequence[Mapping[str, Any]]:
    return run.latest[stage].table(title) if stage in run.latest else []


def _picture(runs: Sequence[Material]) -> str:
    galleries = {
        run.name: Gallery({stage: step.folder for stage, step in run.latest.items()}, run.problem)
        for run in runs
        if "infer" in run.latest
    }
    draws = {name: each.draws for name, each in galleries.items()}
    names = list(dict.fromkeys(name for values in draws.values() for name in values))
    shared = {
        name: {run: values[name] for run, values in draws.items() if name in values}
        for name in names
        if sum(name in values for values in draws.values()) > 1
    }
    if not shared:
        return ""
    labels = {name: label for each in reversed(galleries.values()) for name, label in each.labels.items()}
    return figure(inline(0, _CAPTION, lambda held: plots.overlaid(held, shared, labels)), _CAPTION)


def _figures(runs: Sequence[Material]) -> str:
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        for row in _rows(run, "check", "verdict"):
            mine = rows.setdefault(row["figure"], {"figure": row["figure"], "limit": row["limit"]})
            mine[run.name] = number(row["value"]) + ("" if row["passed"] else ", beyond")
    return table(list(rows.values()), whole=True)
