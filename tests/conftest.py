"""What every test starts from: JAX in 64 bits, pictures without a screen."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from simfer.pipeline import runtime

runtime.prepare()  # before any test imports JAX; in the environment, so that processes which tests start have it too
os.environ["MPLBACKEND"] = "agg"


@pytest.fixture(scope="module")
def plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file with the simulators that the tests' module writes down as `CODE`."""
    file = tmp_path_factory.mktemp("plugin") / "mine.py"
    file.write_text(request.module.CODE)
    return str(file)


@pytest.fixture
def strict_dtypes() -> Iterator[None]:
    """Refuse to mix types of numbers: for code of ours alone, as Optax's Adam and NumPyro's NUTS mix them within."""
    import jax

    with jax.numpy_dtype_promotion("strict"):
        yield
