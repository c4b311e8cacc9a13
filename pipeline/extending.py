"""A larger ensemble: one number of the config is raised, and the rows that are there are kept."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from simfer.pipeline import config
from simfer.pipeline.chain import Mistake, UsageError

_KEY = re.compile(r"^(\s*num_simulations\s*=\s*)([\d_]+)", re.MULTILINE)


def extend(file: Path, num: int) -> int:
    """Raise `simulate.num_simulations` in a config, and nothing else of it; return what it was.

    Raises:
        UsageError: The number is not larger, or does not stand in the file in the usual way.
    """
    before = config.load(file).simulate.num_simulations
    if num <= before:
        what = f"got {num}, expected more than the {before} simulations that {file.name} asks for"
        raise UsageError([Mistake("--num-simulations", what)])
    text = file.read_text(encoding="utf-8")
    found = _KEY.findall(text)
    if len(found) != 1 or int(found[0][1].replace("_", "")) != before:
        what = f"num_simulations = {before} is not in {file.name} on a line of its own; change it there yourself"
        raise UsageError([Mistake("--num-simulations", what)])
    changed = _KEY.sub(lambda match: f"{match[1]}{num}", text)
    if config.from_table(tomllib.loads(changed), folder=file.resolve().parent).simulate.num_simulations != num:
        raise UsageError([Mistake("--num-simulations", f"num_simulations stands in another table of {file.name}")])
    temporary = file.with_name(f".{file.name}.partial")
    temporary.write_text(changed, encoding="utf-8")
    temporary.replace(file)
    return before
