"""What the command line shows of artifacts: tables drawn from manifests alone, so that nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from simfer.pipeline import description
from simfer.pipeline.chain import STAGES
from simfer.pipeline.manifest import Manifest
from simfer.pipeline.plan import Step
from simfer.pipeline.progress import duration, number, place
from simfer.pipeline.runner import Outcome
from simfer.pipeline.runtime import versions
from simfer.pipeline.store import Found
from simfer.pipeline.sweep import Swept
from simfer.pipeline.timing import PARTS

_STYLES = {True: "bold green", False: "bold red", None: "yellow"}
_WORDS = 24  # characters that a column of words has at least, if they are that many
_ORDER = ("infer", "check", "train", "dataset", "simulate")  # what a reader wants first


def show(found: Mapping[str, Outcome], console: Console, damaged: Mapping[str, str]) -> None:
    """Print the verdict, the posterior, and what every other stage had to say, damage before all else."""
    for stage, what in damaged.items():
        console.print(Text(f"{stage} is damaged, and a run builds it again: {what}", style="red"), soft_wrap=True)
    console.print(_verdict(found))
    for stage in _ORDER:
        if stage in found:
            console.print(_stage(found[stage], brief=False))
    _print_pictures(found.values(), console)
    _print_paths(console, "Folders", [found[stage].folder for stage in STAGES if stage in found])


def show_end(found: Mapping[str, Outcome], console: Console) -> None:
    """Print what a run came to: the verdict and the posterior, or what its last stage had to say."""
    if "infer" not in found:
        console.print(_stage(list(found.values())[-1], brief=False))
    else:
        console.print(_verdict(found), *(_stage(found[stage], brief=True) for stage in _ORDER[:2] if stage in found))
    _print_pictures(found.values(), console)


def show_study(outcome: Outcome, console: Console) -> None:
    """Print what a study came to."""
    console.print(_stage(outcome, brief=False))
    _print_pictures([outcome], console)


def show_used(summary: Mapping[str, Any], console: Console) -> None:
    """Print what came of using an emulator."""
    console.print(_summary("", summary, brief=False), soft_wrap=True)


def written(file: Path, console: Console, what: str = "Report") -> None:
    """Print where a page is, or whatever else a file is."""
    console.print(f"{what}: {place(file)}", highlight=False, markup=False, soft_wrap=True)


def prior(file: Path | None, words: Sequence[str], console: Console) -> None:
    """Print where the first runs are drawn over the data, and which data none comes near."""
    console.print(Text("\nruns beside the data", style="bold"))
    for text in words:
        console.print(Text(f"  warning: {text}", style="yellow"), soft_wrap=True)
    if not words:
        console.print("  every datum lies among the runs", highlight=False)
    _print_paths(console, "Runs over the data", [file] if file else [])


def pictures(files: Sequence[Path], console: Console) -> None:
    """Print where pictures are."""
    _print_paths(console, "Pictures", files)


def status(rows: Sequence[tuple[Step, Found, Sequence[str]]], to_build: Collection[str], console: Console) -> None:
    """Print a line for each step: where it stands, its size, when it was made and how long that took; and why."""
    table = Table(box=None, pad_edge=False)
    for column in ("step", "state", "fingerprint", "size", "made", "took"):
        table.add_column(column, justify="right" if column in ("size", "took") else "left", no_wrap=True)
    for step, found, _ in rows:
        table.add_row(
            step.link.name, _state(found, step.link.name in to_build), step.fingerprint, *_particulars(found.manifest)
        )
    console.print(table)
    for step, _, sentences in rows:
        for sentence in sentences:
            console.print(Text.assemble((step.link.name, "bold"), f": {sentence}"), soft_wrap=True)
    for line in _other_versions({step.link.name: found.manifest for step, found, _ in rows}):
        console.print(Text(line, style="yellow"), soft_wrap=True)


def timing(rows: Sequence[tuple[Step, Found]], console: Console) -> None:
    """Print how long each step took that is there, and how that is shared out among its parts."""
    made = [(step, found.manifest) for step, found in rows if found.sound and found.manifest]
    parts = [part for part in PARTS if any(part in manifest.get("timing", {}) for _, manifest in made)]
    table = Table(box=None, pad_edge=False, title="seconds", title_justify="left", title_style="bold")
    for column in ("step", *parts, "all", "programs"):
        table.add_column(column, justify="left" if column == "step" else "right", no_wrap=True)
    for step, manifest in made:
        spent = manifest.get("timing")
        cells = ["-" if spent is None else _seconds(spent.get(part)) for part in parts]
        table.add_row(step.link.name, *cells, _seconds(manifest["seconds"]), str(manifest.get("programs", "-")))
    console.print(table if made else "nothing has been run yet")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def further(rows: Sequence[tuple[Step, Found, Sequence[str]]], most: int, console: Console) -> None:
    """Print how many rounds may follow what is listed: which steps they have depends on what comes out."""
    last, found, _ = rows[-1]
    left = most - last.link.round
    if left > 0 and not found.sound:
        console.print(f"{left} more round{'s' * (left > 1)} at most, if the verdict asks for simulations", style="dim")


def show_stopped(error: Exception, console: Console) -> None:
    """Print why a round after the verdict that is shown came to no end."""
    console.print(Text("\nThe round after this one came to no end:", style="yellow"), soft_wrap=True)
    console.print(Text(str(error)), soft_wrap=True)


def swept(folders: Sequence[Swept], dry_run: bool, console: Console) -> None:
    """Print what a sweep removed, or would."""
    for each in folders:
        console.print(f"{size(each.num_bytes):>10}  {place(each.folder)}", highlight=False, soft_wrap=True)
    total, verb = size(sum(each.num_bytes for each in folders)), "would free" if dry_run else "freed"
    console.print(f"{verb} {total} in {len(folders)} folders" if folders else "nothing to remove", highlight=False)


def listing(entries: Mapping[str, str], console: Console) -> None:
    """Print names with a line of description each."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in entries.items():
        table.add_row(Text(name, style="bold"), Text(text))
    console.print(table)


def settings(entries: Iterable[Any], console: Console) -> None:
    """Print keys of the config: each with its type, default and unit, and its meaning below."""
    for each in entries:
        default = "" if each.default == "required" else " = " + each.default
        console.print(Text.assemble((each.key, "bold"), default if default != " = left out" else ""), soft_wrap=True)
        words = f"{each.type}, {each.unit}" if each.unit else each.type
        if each.default in ("required", "left out"):
            words += f"; {'required' if each.default == 'required' else 'may be left out'}"
        console.print(Padding(Text(words, style="dim"), (0, 0, 0, 4), expand=False))
        console.print(Padding(Text(each.meaning), (0, 0, 0, 4), expand=False))


def size(num_bytes: float) -> str:
    """Write a number of bytes: 312 B, 4.1 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def total_bytes(manifest: Manifest) -> int:
    """Add up the files of an artifact."""
    return sum(record["bytes"] for record in manifest["files"].values())


def _verdict(found: Mapping[str, Outcome]) -> RenderableType:
    summaries = {stage: outcome.summary for stage, outcome in found.items()}
    said, passed = description.verdict(summaries)
    text = Text(said, style=_STYLES[passed])
    return text.append(f"\n{advice}", "not bold") if not passed and (advice := description.advice(summaries)) else text


def _stage(outcome: Outcome, brief: bool) -> RenderableType:
    return _summary(f"\n{outcome.step.link.stage}, round {outcome.step.link.round}", outcome.summary, brief)


def _summary(title: str, summary: Mapping[str, Any], brief: bool) -> RenderableType:
    parts: list[RenderableType] = [Text(title, style="bold")] if title else []
    parts += [Text(f"  warning: {text}", style="yellow") for text in summary.get("warnings", [])]
    for title, rows in summary.get("tables", {}).items():
        parts += [Text(f"  {title}", style="italic"), _Rows(rows)] if rows else []
    if not brief:
        parts += [Text(f"  {_fact(name, value)}") for name, value in summary.get("facts", {}).items()]
    if text := summary.get("to_paste"):
        parts += [Text("\n  to paste into the config", style="italic"), Text(text)]
    return Group(*parts)


def _fact(name: str, value: Any) -> str:
    if name.endswith("_mb"):
        name, value = name.removesuffix("_mb"), None if value is None else size(1e6 * value)
    return f"{name.replace('_', ' ')}: {number(value)}"


class _Rows:
    """A table that loses no digit: columns that have no room beside the others follow below, the first one repeated."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        names = list(dict.fromkeys(column for row in rows for column in row))
        self._cells = {name: [_cell(row.get(name)) for row in rows] for name in names}
        self._words = {name for name in names if any(isinstance(row.get(name), str) for row in rows)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Padding]:
        for names in self._blocks(options.max_width - 2):
            table = Table(box=None, pad_edge=False)
            for name in names:
                words = name in self._words
                table.add_column(
                    name,
                    justify="left" if words else "right",
                    no_wrap=not words,
                    overflow="fold",
                    min_width=self._width(name),
                )
            for row in zip(*(self._cells[name] for name in names), strict=True):
                table.add_row(*row)
            yield Padding(table, (0, 0, 0, 2), expand=False)

    def _blocks(self, room: int) -> Iterator[list[str]]:
        first, *others = self._cells
        block, width = [first], self._width(first)
        for name in others:
            width += 2 + self._width(name)
            if width > room and len(block) > 1:
                yield block
                block, width = [first], self._width(first) + 2 + self._width(name)
            block.append(name)
        yield block

    def _width(self, name: str) -> int:
        """Return the least width of a column: words go on below, numbers do not."""
        width = max(len(name), *(cell.cell_len for cell in self._cells[name]))
        return min(width, _WORDS) if name in self._words else width


def _cell(value: Any) -> Text:
    if isinstance(value, bool):
        return Text("yes" if value else "no", style="green" if value else "red")
    return Text(number(value))


def _print_pictures(outcomes: Iterable[Outcome], console: Console) -> None:
    names = [(outcome.folder, name) for outcome in outcomes for name in outcome.summary.get("pictures", [])]
    _print_paths(console, "Pictures", [folder / name for folder, name in names])


def _print_paths(console: Console, title: str, paths: Sequence[Path]) -> None:
    if paths:
        console.print(Text(f"\n{title}", style="bold"))
    for path in paths:
        console.print(f"  {place(path)}", highlight=False, markup=False, soft_wrap=True)


def _state(found: Found, needed: bool) -> Text:
    if found.damage:
        return Text("damaged", style="red")
    if found.sound:
        return Text("cached", style="green")
    return Text("to build", style="yellow") if needed else Text("not needed", style="dim")


def _particulars(manifest: Manifest | None) -> tuple[str, str, str]:
    if manifest is None:
        return ("", "", "")
    made = datetime.fromisoformat(manifest["finished"]).astimezone()
    return size(total_bytes(manifest)), f"{made:%Y-%m-%d %H:%M}", duration(manifest["seconds"])


def _other_versions(made: Mapping[str, Manifest | None]) -> Iterator[str]:
    """Say which steps were made with other versions than are here, in a line for each version."""
    now, steps = versions(), dict[tuple[str, str], list[str]]()
    for step, manifest in made.items():
        for name, then in manifest["versions"].items() if manifest else ():
            if now.get(name) != then:
                steps.setdefault((name, then), []).append(step)
    for (name, then), which in steps.items():
        words = f"{which[0]} was" if len(which) == 1 else f"{len(which)} steps, {which[0]} to {which[-1]}, were"
        yield f"{words} made with {name} {then}; here it is {now.get(name, 'not installed')}"
