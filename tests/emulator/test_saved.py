"""An emulator on disk: it loads for ever, gives the numbers that it gave, and refuses to be read wrongly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import FORMAT, HEADER, LEAVES, _header_digest, load_emulator, save_emulator
from simfer.stages.errors import SimferError
from tests import helpers

POINT = {"intercept": 0.7, "slope": -0.9}
KEPT = sorted(path.parent for path in (helpers.ROOT / "tests" / "emulator" / "kept").glob("*/*/emulator.json"))


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return helpers.line_run(until="train").emulator  # type: ignore[no-any-return]


@pytest.fixture
def copy(tmp_path: Path, emulator: Emulator) -> Path:
    """Return a copy of an emulator's folder, to be damaged."""
    return Path(shutil.copytree(helpers.line_run(until="train").folders["train"], tmp_path / "copy"))


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_files_of_every_format_give_what_they_gave(folder: Path, tmp_path: Path) -> None:
    stored = json.loads((folder / "predictions.json").read_text())
    parameters = {name: np.asarray(values) for name, values in stored.pop("parameters").items()}
    density = stored.pop("log_density", None)
    save_emulator(load_emulator(folder), tmp_path)
    for emulator in (load_emulator(folder), load_emulator(tmp_path)):
        calls = {"prediction": emulator, "error": emulator.error, "scatter": emulator.scatter}
        for kind, outputs in stored.items():
            found = jax.jit(jax.vmap(calls[kind]))(parameters)
            assert set(found) == set(outputs)
            for name, values in outputs.items():  # float32 networks sum in another order on another machine
                assert np.allclose(found[name], values, rtol=1e-4, atol=1e-5 * np.abs(values).max()), (kind, name)
        if density:
            at = (jnp.asarray(density["x"]), jnp.asarray(density["y"]))
            assert emulator.flow is not None
            assert np.allclose(jax.jit(jax.vmap(emulator.flow.log_prob))(*at), density["flow"], rtol=1e-4)
        assert emulator.spread.shape == emulator.residuals.shape and emulator.inside(parameters).all()


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_errors_have_a_slope_everywhere(folder: Path) -> None:
    emulator = load_emulator(folder)  # where a simulation begins, outputs are given and do not vary
    values = emulator.space.values(np.median(np.asarray(emulator.training_z), axis=0))
    point = {name: float(values[name]) for name in emulator.space.names}
    slopes = jax.jit(jax.jacfwd(lambda point: (emulator.error(point), emulator.scatter(point))))(point)
    assert all(np.isfinite(each).all() for each in jax.tree.leaves(slopes))


def test_a_file_of_every_format_is_kept() -> None:
    # The second was never in use outside of this repository.
    assert {f"format{number}" for number in range(1, FORMAT + 1)} - {"format2"} <= {each.parent.name for each in KEPT}


def test_a_fresh_process_loads_it_and_gets_the_same_numbers(emulator: Emulator) -> None:
    folder = helpers.line_run(until="train").folders["train"]
    code = (
        "import jax; jax.config.update('jax_enable_x64', True)\n"
        "from simfer.stages.emulator.saved import load_emulator\n"
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
        "from simfer.stages.emulator.saved import load_emulator\n"
        "from simfer.stages.errors import SimferError\n"
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
    with pytest.raises(SimferError, match=r"does not fit its header .*its digest is .*train again, or restore it"):
        load_emulator(copy)
    (copy / LEAVES).unlink()
    with pytest.raises(SimferError, match="train again, or restore it"):
        load_emulator(copy)


def test_a_file_with_something_after_its_end_is_refused(copy: Path) -> None:
    with (copy / LEAVES).open("ab") as file:
        file.write(b"more")
    with pytest.raises(SimferError, match="does not fit its header"):
        load_emulator(copy)


def test_a_file_with_another_number_in_it_is_refused(copy: Path) -> None:
    leaves = bytearray((copy / LEAVES).read_bytes())
    leaves[-3] ^= 1  # within the last array: of its right size, and wrong
    (copy / LEAVES).write_bytes(leaves)
    with pytest.raises(SimferError, match="its digest is"):
        load_emulator(copy)


def _edit(folder: Path, *, seal: bool = False, **changes: object) -> None:
    """Change a header, as an editor would, or (`seal`) as one who computes its digest anew."""
    header = json.loads((folder / HEADER).read_text()) | changes
    if seal:
        header["digests"][HEADER] = _header_digest(header)
    (folder / HEADER).write_text(json.dumps(header))


@pytest.mark.parametrize(
    "change",
    [{"floor": 1e-9}, {"training_seconds": 1.0}, {"transform": {"y": "log"}}, {"format": 1}, {"note": "mine"}],
    ids=lambda change: next(iter(change)),
)
def test_an_edited_header_is_refused(copy: Path, change: dict[str, object]) -> None:
    _edit(copy)  # another layout of the same text is no edit
    load_emulator(copy)
    _edit(copy, **change)
    with pytest.raises(SimferError, match=r"emulator.json was edited .*train again, or restore it"):
        load_emulator(copy)


def test_a_header_that_does_not_fit_is_refused(copy: Path) -> None:
    _edit(copy, seal=True, options={"width": 17, "depth": 1})
    with pytest.raises(SimferError, match="does not fit its header"):
        load_emulator(copy)


def test_a_header_that_is_not_whole_is_refused_in_words(copy: Path) -> None:
    whole = json.loads((copy / HEADER).read_text())
    for key in ("space", "layout", "options", "architecture", "dtype", "num_members", "digests", "families"):
        (copy / HEADER).write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        with pytest.raises(SimferError, match=key):
            load_emulator(copy)
    (copy / HEADER).write_text(json.dumps(whole)[:100])
    with pytest.raises(SimferError, match="holds no readable emulator"):
        load_emulator(copy)
    (copy / HEADER).write_text("[]")
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
    _edit(copy, seal=True, architecture=f"{tmp_path / 'evil.py'}:Net")
    with pytest.raises(SimferError, match="an architecture of your own"):
        load_emulator(copy)


def test_nothing_is_pickled(copy: Path) -> None:
    assert b"pickle" not in (copy / LEAVES).read_bytes()
    with (copy / LEAVES).open("rb") as file:
        array = np.load(file, allow_pickle=False)
    assert array.dtype.kind in "fiub"
