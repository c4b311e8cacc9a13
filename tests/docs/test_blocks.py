"""README and docs: every code block is valid, and runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from simfer import load
from simfer.pipeline import config
from simfer.pipeline.cli import app
from tests.docs.blocks import PAGES, TUTORIAL, Block, blocks, sections, start
from tests.helpers import ROOT

_OTHERS = ("make", "pip", "sbatch")  # other programs
# Enough to see that a page runs; what it says of its results was seen with its own numbers.
_SHORT = {
    "num_simulations": 300,
    "steps": 100,
    "ensemble_size": 2,
    "num_warmup": 100,
    "num_samples": 100,
    "max_rounds": 0,
}
_WAITS = re.compile(r"^exec |--engine", re.MULTILINE)  # jobs that wait for others
_FULL_SIZE = {"random": ("num_simulations",)}
_WITH_CODE = [page for page in PAGES if any(True for _ in blocks(page))]
_WALKS = [page for page in _WITH_CODE if page != TUTORIAL]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store that all walks share: most begin with the tutorial's problem."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture
def folder(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder of a reader."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "artifacts").symlink_to(store)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as where Python is started in the folder
    return tmp_path


def _name(page: Path) -> str:
    return page.stem if page.stem != "index" else f"{page.parent.name}-index"


@pytest.mark.parametrize("page", _WITH_CODE, ids=_name)
def test_every_block_is_of_a_kind_that_is_run_or_is_what_something_printed(page: Path) -> None:
    for block in blocks(page):
        assert block.language in {"bash", "console", "csv", "python", "text", "toml"}
        assert block.file or block.change or block.language not in {"bash", "csv", "toml"}, block.text


@pytest.mark.parametrize("page", _WITH_CODE, ids=_name)
def test_every_config_of_a_page_is_valid_and_every_command_is_one(page: Path, tmp_path: Path) -> None:
    commands: Any = get_command(app)
    start(tmp_path)
    for block in blocks(page):
        block.write(tmp_path)
        if block.replaced:
            assert block.replaced <= sections(block.text)
        if block.file.endswith(".toml") or block.change:
            config.load(tmp_path / (block.file or block.change))
        elif block.language == "python":
            compile(block.text, str(page), "exec")
        for words in _commands(block):
            with commands.commands[words[1]].make_context(words[1], words[2:]):
                pass


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_nothing_is_imported_from_within_simfer(page: Path) -> None:
    assert not re.search(r"simfer\.(pipeline|stages)|from (pipeline|stages)", page.read_text())


@pytest.mark.slow  # it takes a minute; CI runs it
def test_the_walk_of_the_tutorial_ends_as_it_says(folder: Path) -> None:
    _walk(TUTORIAL, exit_codes={0})
    table = load("yeast.toml").summaries["infer"]["tables"]["posterior"]
    shown = next(block.text for block in blocks(TUTORIAL) if block.language == "text")
    for row in table:
        line = next(line for line in shown.splitlines() if line.split()[:1] == [row["parameter"]])
        mean, sd = map(float, line.split()[1:3])
        assert mean == pytest.approx(row["mean"], abs=0.5 * row["sd"])
        assert sd == pytest.approx(row["sd"], rel=0.3)


@pytest.mark.slow  # some seconds each; CI runs them
@pytest.mark.parametrize("page", _WALKS, ids=_name)
def test_the_walk_of_a_page_runs_from_top_to_bottom(page: Path, folder: Path) -> None:
    start(folder)
    _shorten(folder, _FULL_SIZE.get(page.stem, ()))
    _walk(page, exit_codes={0, 4, 5}, full_size=_FULL_SIZE.get(page.stem, ()))


def _walk(page: Path, exit_codes: set[int], full_size: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Do what a page says in the current folder; return the names that its Python left."""
    names: dict[str, Any] = {"__name__": "__main__"}  # a block goes on where the one before it ended
    for block in blocks(page):
        block.write(Path())
        if full_size is not None:
            _shorten(Path(), full_size)
        for words in _commands(block):
            if words[1] == "serve" or "--engine" in words:
                continue  # it would wait for others; tests/emulator/test_serve.py and tests/simulate/ have them
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code in exit_codes, f"{shlex.join(words)}\n{result.output}"
        if block.language == "python" and not block.file:
            exec(compile(block.text, page.name, "exec"), names)
        if block.file.endswith(".sh") and not _WAITS.search(block.text):
            place = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
            done = subprocess.run(["bash", block.file], env=place, capture_output=True, text=True)
            assert done.returncode in exit_codes, done.stderr
    return names


def _commands(block: Block) -> list[list[str]]:
    """Return the lines of a console that are ours, in words."""
    if block.language != "console":
        return []
    lines = [shlex.split(line, comments=True) for line in block.text.splitlines()]
    assert all(words[0] in ("simfer", *_OTHERS) for words in lines if words)
    return [words for words in lines if words and words[0] == "simfer"]


def _shorten(folder: Path, full_size: tuple[str, ...]) -> None:
    for file in folder.glob("*.toml"):
        text = file.read_text()
        for key, most in _SHORT.items():
            if key not in full_size:
                text = re.sub(
                    rf"^{key} = (\d+)", lambda n, k=key, m=most: f"{k} = {min(int(n[1]), m)}", text, flags=re.M
                )
        if "[infer]" not in text:
            text += "\n[infer]\nnum_warmup = 100\nnum_samples = 100\n"
        file.write_text(text)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_readme_links_to_what_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).is_file(), link
