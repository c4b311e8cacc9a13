"""The code blocks of README and docs: read, and run as a reader would, one page after another.

A block's first line says what it is: `# yeast.py` is a file, `# in yeast.toml, in place of [train]` and `# added to
yeast.toml` change one that is there. Without such a line Python is run where the page's last block ended, a console
command by command; `text` is what something printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\w+\.(?:py|csv|toml|sh))")
_CHANGE = re.compile(r"# (?:in (\w+\.toml), in place of (.+)|added to (\w+\.toml))")
_SECTION = re.compile(r"^\[([\w.]+)\]", re.MULTILINE)


class Block(NamedTuple):
    """One fenced block: its language and text, and the file that it is, or that it changes, and there which tables."""

    language: str
    text: str
    file: str = ""
    change: str = ""
    replaced: frozenset[str] = frozenset()

    def write(self, folder: Path) -> None:
        """Write the file that the block is, or the change that it makes."""
        if self.file:
            (folder / self.file).write_text(self.text)
        if self.change:
            place = folder / self.change
            kept = without(place.read_text(), self.replaced)
            place.write_text(f"{kept.rstrip()}\n\n{self.text.partition(chr(10))[2].strip()}\n")


def blocks(page: Path) -> Iterator[Block]:
    """Yield a page's blocks in their order."""
    for language, text in _BLOCK.findall(page.read_text()):
        first, second = [*text.splitlines(), "", ""][:2]
        line = second if first.startswith("#!") else first
        if file := _FILE.fullmatch(line):
            yield Block(language, text, file=file[1])
        elif change := _CHANGE.fullmatch(line):
            replaced = frozenset(re.findall(r"\[([\w.]+)\]", change[2] or ""))
            yield Block(language, text, change=change[1] or change[3], replaced=replaced)
        else:
            yield Block(language, text)


def sections(text: str) -> set[str]:
    """Return the names of the tables of a TOML text."""
    return set(_SECTION.findall(text))


def without(text: str, names: frozenset[str]) -> str:
    """Return a TOML text without some of its tables, each of which must be there."""
    assert names <= sections(text), f"{sorted(names)} are to be replaced, and there is {sorted(sections(text))}"
    parts = re.split(r"(?=^\[[\w.]+\])", text, flags=re.MULTILINE)
    return "".join(part for part in parts if not ((head := _SECTION.match(part)) and head[1] in names))


def start(folder: Path) -> None:
    """Put the files of the tutorial into a folder: every other page goes on from there."""
    for block in blocks(TUTORIAL):
        if block.file:
            block.write(folder)
