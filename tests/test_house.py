"""The house as it is drawn: what no linter of single files or layers can see."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import fakes

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "simfer"
FILES = sorted(file for name in ("pipeline", "stages") for file in (ROOT / name).rglob("*.py")) + [
    HOUSE / "__init__.py"
]


def module(file: Path) -> str:
    """Return the name by which a file is imported."""
    inside = file.relative_to(ROOT).with_suffix("")
    parts = inside.parts if inside.parts[0] == "simfer" else ("simfer", *inside.parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(file): file for file in FILES}


def imports(file: Path) -> Iterator[str]:
    """Yield the modules of the house that a file imports, wherever in it: within functions and for types, too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: {other for other in imports(file) if other in MODULES} for name, file in MODULES.items()}
    assert len(graph) > 100 and sum(map(len, graph.values())) > 300  # it does see them
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_nothing_is_imported_by_a_second_name() -> None:
    """The folders lie beside the tests, so that `import stages` works here: with other classes than the house's."""
    scripts = [file for name in ("tests", "benchmarks") for file in (ROOT / name).rglob("*.py")]
    strangers = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in [*FILES, *scripts]
        for name in imports(file)
        if name.partition(".")[0] in ("stages", "pipeline")
    }
    assert not strangers


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
def test_what_is_built_is_not_tracked() -> None:
    """A program that was built on one machine crashes, or is out of date, on another: `make` builds it there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert len(files) > 100
    built = b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"MZ"  # on Linux, macOS and Windows
    assert [file for file in files if file.read_bytes()[:4].startswith(built)] == []


def test_a_stage_is_there_before_the_statistics_that_it_may_ask_for() -> None:
    """A third of a second: those who ask for none of it, as whoever predicts or looks at a page, do not wait for it."""
    stages = [f"simfer.stages.{name}.stage" for name in ("simulate", "dataset", "train", "infer", "check")]
    others = ["simfer.stages.preflight", "simfer.stages.report.page", "simfer.stages.emulator.predict"]
    heavy = {f"scipy.{name}" for name in ("cluster", "integrate", "interpolate", "optimize", "signal", "stats")}
    code = (
        "import sys\nfrom importlib import import_module\nfrom simfer.pipeline import runtime\nruntime.prepare()\n"
        f"for name in {stages + others}: import_module(name)\nprint(sorted({heavy} & set(sys.modules)))"
    )
    assert fakes.python(code).stdout == "[]\n"
