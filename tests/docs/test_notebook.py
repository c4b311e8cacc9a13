"""The notebook of the docs, from its first cell to its last in a kernel of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import helpers

NOTEBOOK = helpers.ROOT / "docs" / "yeast.ipynb"


def executed(folder: Path) -> Any:
    """Run every cell in an empty folder; return the notebook with what came out."""
    import nbformat
    from nbclient import NotebookClient

    shutil.copy(NOTEBOOK, folder)
    notebook: Any = nbformat.read(folder / NOTEBOOK.name, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def shown(cell: Any) -> dict[str, str]:
    """Return what a cell's value looks like, by the kind."""
    (value,) = (each for each in cell["outputs"] if each["output_type"] == "execute_result")
    return dict(value["data"])


@pytest.mark.slow  # a minute; the how-to page of notebooks says the same in blocks
def test_the_notebook_ends_in_a_posterior_that_passed(tmp_path: Path) -> None:
    cells = [cell for cell in executed(tmp_path)["cells"] if cell["cell_type"] == "code"]
    answer, numbers, summary, picture, page = cells[2:]
    assert "passed" in shown(answer)["text/html"].lower()
    mean, sd, passed = eval(shown(numbers)["text/plain"])
    assert passed and abs(mean - 0.546) < 3 * 0.006 and 0.003 < sd < 0.012  # 1/h, as in the tutorial
    assert "r_hat" in shown(summary)["text/html"] or "r_hat" in shown(summary)["text/plain"]
    assert "image/png" in shown(picture)
    assert "<iframe" in shown(page)["text/html"]
    assert (tmp_path / "yeast.html").stat().st_size > 100_000


def test_the_notebook_is_kept_without_what_came_out() -> None:
    import nbformat

    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])
