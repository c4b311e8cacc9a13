"""Files and the environment that one's code looks at are said: no fingerprint sees them."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from simfer.stages.model.plugins import resolve
from simfer.stages.preflight.surroundings import remarks, watched
from tests import helpers

CODE = """
import os
import numpy as np

TABLE = np.loadtxt({table!r})
WHERE = os.environ.get("WHERE")

def call():
    with open({log!r}, "a") as file:
        file.write("called")
    return np.load({named!r})
"""


def test_what_is_opened_is_said_unless_the_config_names_it(tmp_path: Path) -> None:
    table, named, log = (tmp_path / name for name in ("table.csv", "named.npy", "log.txt"))
    table.write_text("1.0\n")
    np.save(named, np.ones(2))
    log.write_text("")
    (tmp_path / "mine.py").write_text(CODE.format(table=str(table), named=str(named), log=str(log)))
    own = {"simulator": f"{tmp_path / 'mine.py'}:call", "depends_on": [str(named)]}
    config = helpers.problem(helpers.line(simulate=own))
    with watched() as opened:
        helpers.line_data()  # what others open is not said
        assert resolve(f"{tmp_path / 'mine.py'}:call", {})().tolist() == [1.0, 1.0]
    said = [each for each in remarks(config, opened) if "mine.py" in each]
    assert [each.partition(",")[0].partition(":")[0] for each in said] == [
        f"mine.py reads {table}",
        f"mine.py writes {log}",
        "mine.py",
    ]
    assert "line 6, looks at the environment" in said[-1]


def test_what_jax_keeps_compiled_is_not_the_codes_own(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "program").write_text("")
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'kept' / 'program')!r}).close()\ndef call(): pass\n")
    was = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "kept"))
    try:
        with watched() as opened:
            resolve(f"{tmp_path / 'mine.py'}:call", {})
    finally:
        jax.config.update("jax_compilation_cache_dir", was)
    assert opened == {}
