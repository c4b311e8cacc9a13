"""PEST's instruction files (`pif`): where in a program's output each observation is (PEST manual, 2.3)."""

from __future__ import annotations

import re

from simfer.stages.simulate.children.numbers import number
from simfer.stages.simulate.children.returned import BadOutput

_HEAD = re.compile(r"pif\s+(\S)\s*$", re.IGNORECASE)
_FIELD = re.compile(r"([\[(])(\w+)[\])](\d+):(\d+)")


def follow(instructions: str, output: str, where: str) -> dict[str, float]:
    """Read the observations, by their names in small letters."""
    first, *rest = instructions.splitlines()
    head = _HEAD.match(first)
    if head is None:
        raise BadOutput(f"{where}: got instructions that begin with {first!r}, expected `pif` and a marker")
    marker, found = head[1], dict[str, float]()
    cursor = _Cursor(output.splitlines(), where)
    for line in rest:
        words = re.findall(rf"{re.escape(marker)}[^{re.escape(marker)}]*{re.escape(marker)}|\S+", line)
        for at, word in enumerate(words):
            if at == 0 and word.startswith(marker):
                cursor.down(1)  # a marker that begins a line is looked for in all that follows
            _follow(word, cursor, marker, found, at == 0)
    return found


class _Cursor:
    def __init__(self, lines: list[str], where: str) -> None:
        self.lines, self.where, self.line, self.at = lines, where, -1, 0

    def down(self, count: int) -> None:
        self.line, self.at = self.line + count, 0
        self.text  # noqa: B018

    @property
    def text(self) -> str:
        if not 0 <= self.line < len(self.lines):
            raise BadOutput(f"{self.where}: it ends before line {self.line + 1}, which the instructions read")
        return self.lines[self.line]

    def seek(self, text: str, anywhere: bool) -> None:
        while True:
            if (at := self.text.find(text, self.at)) >= 0:
                self.at = at + len(text)
                return
            if not anywhere:
                raise BadOutput(
                    f"{self.where}, line {self.line + 1}: no {text!r} there, where the instructions look for it"
                )
            self.down(1)


def _follow(word: str, cursor: _Cursor, marker: str, found: dict[str, float], is_first: bool) -> None:
    lower = word.lower()
    if re.fullmatch(r"l\d+", lower):
        cursor.down(int(lower[1:]))
    elif lower == "&":
        return
    elif lower == "w":
        gap = re.compile(r"\s+").search(cursor.text, cursor.at)
        if gap is None:
            raise BadOutput(f"{cursor.where}, line {cursor.line + 1}: no further white space there")
        cursor.at = gap.end()
    elif re.fullmatch(r"t\d+", lower):
        cursor.at = int(lower[1:]) - 1
    elif word.startswith(marker):
        cursor.seek(word[1:-1], anywhere=is_first)
    elif lower.startswith("!"):
        got = re.compile(r"[\s,]*([^\s,]+)").match(cursor.text, cursor.at)
        if got is None:
            raise BadOutput(f"{cursor.where}, line {cursor.line + 1}: nothing there to read {word} from")
        cursor.at = got.end()
        _keep(lower.strip("!"), got[1], cursor, found)
    elif field := _FIELD.fullmatch(lower):
        a, b = int(field[3]) - 1, int(field[4])
        cursor.at = b
        _keep(field[2], cursor.text[a:b], cursor, found)
    else:
        raise BadOutput(f"{cursor.where}: the instruction {word!r} is none that is known here")


def _keep(name: str, text: str, cursor: _Cursor, found: dict[str, float]) -> None:
    if name != "dum":
        found[name] = number(text, f"{cursor.where}, line {cursor.line + 1}")
