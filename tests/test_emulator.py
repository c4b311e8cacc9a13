"""An emulator is a function of named parameters, can be kept, and refuses to be read wrongly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stages.emulator import FORMAT, HEADER, LEAVES, Emulator, load_emulator, save_emulator
from stages.errors import SimferError
from tests import helpers

POINT = {"intercept": 0.7, "slope": -0.9}


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return helpers.line_run(until="train").emulator  # type: ignore[no-any-return]


@pytest.fixture
def copy(tmp_path: Path, emulator: Emulator) -> Path:
    """Return a copy of an emulator's folder, to be damaged."""
    return Path(shutil.copytree(helpers.line_run(until="train").folders["train"], tmp_path / "copy"))


def test_it_predicts_named_outputs_of_named_parameters(emulator: Emulator) -> None:
    out = emulator(POINT)
    assert set(out) == {"y"} and out["y"].shape == (9,) and out["y"].dtype == jnp.float64
    assert np.allclose(out["y"], 0.7 - 0.9 * helpers.X, atol=0.05)


def test_it_goes_through_jit_vmap_and_grad(emulator: Emulator) -> None:
    many = {name: jnp.asarray(value) + jnp.linspace(-0.5, 0.5, 7) for name, value in POINT.items()}
    mapped = jax.jit(jax.vmap(emulator))(many)["y"]
    assert mapped.shape == (7, 9)
    one = emulator({name: values[2] for name, values in many.items()})["y"]
    assert np.allclose(mapped[2], one, rtol=1e-10)
    slope = jax.jacfwd(lambda p: emulator(p)["y"])({k: jnp.asarray(v) for k, v in POINT.items()})
    assert np.allclose(slope["slope"], helpers.X, atol=0.1)
    assert np.allclose(slope["intercept"], 1.0, atol=0.1)
    assert eqx.filter_jit(emulator)(POINT)["y"].shape == (9,)


def test_its_error_grows_away_from_what_it_was_trained_on(emulator: Emulator) -> None:
    near = emulator.error(POINT)["y"]
    far = emulator.error({"intercept": 12.0, "slope": -8.0})["y"]
    assert near.shape == (9,) and (near > 0).all()
    assert far.mean() > 10 * near.mean()


def test_unknown_and_missing_parameters_are_refused(emulator: Emulator) -> None:
    with pytest.raises(SimferError, match=r"got parameters \['intercept'\], expected \['intercept', 'slope'\]"):
        emulator({"intercept": 1.0})
    with pytest.raises(SimferError, match="slop"):
        emulator({"intercept": 1.0, "slop": 2.0})
    with pytest.raises(SimferError, match="expected"):
        emulator({**POINT, "curvature": 0.0})


def test_a_fresh_process_loads_it_and_gets_the_same_numbers(emulator: Emulator) -> None:
    folder = helpers.line_run(until="train").folders["train"]
    code = (
        "import jax; jax.config.update('jax_enable_x64', True)\n"
        "from stages.emulator import load_emulator\n"
        f"out = load_emulator({str(folder)!r})({POINT!r})['y']\n"
        "print([float(value).hex() for value in out])\n"
    )
    done = helpers.python("-c", code)
    assert done.returncode == 0, done.stderr
    stored = [float.fromhex(value) for value in json.loads(done.stdout.replace("'", '"'))]
    assert np.allclose(stored, emulator(POINT)["y"], rtol=1e-13)


def test_without_64_bits_it_is_refused_and_not_narrowed() -> None:
    folder = helpers.line_run(until="train").folders["train"]
    code = (
        "import jax; jax.config.update('jax_enable_x64', False)\n"
        "from stages.emulator import load_emulator\n"
        "from stages.errors import SimferError\n"
        "try:\n"
        f"    load_emulator({str(folder)!r})\n"
        "except SimferError as error:\n"
        "    print('REFUSED', error)\n"
    )
    done = helpers.python("-c", code)
    assert "REFUSED" in done.stdout and "jax_enable_x64" in done.stdout, done.stderr


def test_saving_and_loading_again_keeps_every_number(emulator: Emulator, tmp_path: Path) -> None:
    save_emulator(emulator, tmp_path)
    again = load_emulator(tmp_path)
    for a, b in zip(jax.tree.leaves(emulator), jax.tree.leaves(again), strict=True):
        assert np.array_equal(a, b) and a.dtype == b.dtype
    assert again.header == emulator.header


def test_a_truncated_file_is_refused(copy: Path) -> None:
    whole = (copy / LEAVES).read_bytes()
    (copy / LEAVES).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SimferError, match=r"does not fit its header .*train again, or restore it"):
        load_emulator(copy)
    (copy / LEAVES).unlink()
    with pytest.raises(SimferError, match="train again, or restore it"):
        load_emulator(copy)


def test_a_file_with_something_after_its_end_is_refused(copy: Path) -> None:
    with (copy / LEAVES).open("ab") as file:
        file.write(b"more")
    with pytest.raises(SimferError, match="does not fit its header"):
        load_emulator(copy)


def _edit(folder: Path, **changes: object) -> None:
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps(header | changes))


def test_a_header_that_does_not_fit_is_refused(copy: Path) -> None:
    _edit(copy, options={"width": 17, "depth": 1})
    with pytest.raises(SimferError, match="does not fit its header"):
        load_emulator(copy)


def test_a_header_that_is_not_whole_is_refused_in_words(copy: Path) -> None:
    whole = json.loads((copy / HEADER).read_text())
    for key in ("space", "layout", "options", "architecture", "dtype", "num_members"):
        (copy / HEADER).write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        with pytest.raises(SimferError, match=key):
            load_emulator(copy)
    (copy / HEADER).write_text(json.dumps(whole)[:100])
    with pytest.raises(SimferError, match="holds no readable emulator"):
        load_emulator(copy)
    (copy / HEADER).unlink()
    with pytest.raises(SimferError, match="holds no readable emulator"):
        load_emulator(copy)


def test_a_newer_format_is_refused(copy: Path) -> None:
    _edit(copy, format=FORMAT + 1)
    with pytest.raises(SimferError, match=f"written in format {FORMAT + 1}; this simfer reads up to {FORMAT}"):
        load_emulator(copy)


def test_code_is_never_run_from_a_path_in_a_file(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')\n")
    _edit(copy, architecture=f"{tmp_path / 'evil.py'}:Net")
    with pytest.raises(SimferError, match="an architecture of your own"):
        load_emulator(copy)


def test_nothing_is_pickled(copy: Path) -> None:
    assert b"pickle" not in (copy / LEAVES).read_bytes()
    with (copy / LEAVES).open("rb") as file:
        array = np.load(file, allow_pickle=False)
    assert array.dtype.kind in "fiub"
