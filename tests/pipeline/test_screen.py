"""Tables on a terminal of 80 columns lose no digit."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from simfer.pipeline import screen

ROW = {"parameter": "prey_scale", "mean": 0.09313, "sd": 0.0009691, "median": 0.08928, "r_hat": 1.003}
ROW |= {"ess_bulk": 12735.1, "ess_tail": 12705.0, "q95": 0.13682, "unit": "1/(predator time)"}
FIGURE = "emulator error, predator (99th percentile, data sigma), at the posterior's draws"


def printed(summary: dict[str, object], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    screen.show_used(summary, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_columns_without_room_follow_below(width: int) -> None:
    lines = printed({"tables": {"posterior": [ROW]}}, width)
    blocks = [line.split() for line in lines[1:]]
    assert max(map(len, lines)) <= width and (len(blocks) == 2) == (width == 200)
    assert all(block[0] == name for block, name in zip(blocks, ["parameter", "prey_scale"] * 9, strict=False))
    assert [name for block in blocks[::2] for name in block[1:]] == list(ROW)[1:]
    numbers = [cell for block in blocks[1::2] for cell in block[1:]]
    assert numbers == ["0.09313", "0.0009691", "0.08928", "1.003", "12,735", "12,705", "0.1368", "1/(predator", "time)"]


def test_words_go_on_below() -> None:
    rows = [{"figure": FIGURE, "value": 0.10543, "limit": "≤ 0.5", "passed": False}]
    lines = printed({"tables": {"verdict": rows}}, 80)
    assert max(map(len, lines)) <= 80 and lines[1].split() == ["figure", "value", "limit", "passed"]
    assert lines[2].split()[-4:] == ["0.1054", "≤", "0.5", "no"] and len(lines) == 4
    assert " ".join(" ".join(lines[2:]).split()).replace("0.1054 ≤ 0.5 no ", "") == FIGURE
