"""What every test starts from: JAX in 64 bits, pictures without a screen."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from threadpoolctl import threadpool_limits

from simfer.pipeline import runtime

_CHAIN = "chain", "check", "infer"

# Before any test imports JAX; in the environment, so that processes which tests start have it too.
runtime.prepare()
os.environ["MPLBACKEND"] = "agg"
# Matrices of tests are small, and tests run side by side: threads of BLAS spent thirty times what their work takes.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
threadpool_limits(1)  # and where a plugin of pytest's has imported NumPy before
# A test computes for milliseconds what takes XLA a second to compile: three quarters of the tests' time, by default.
os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=1"
if version("jaxlib").startswith("0.10."):  # XLA ends a process that names a flag which it does not know
    # A quarter of the time again; with level 0 beside it a gradient came out as NaN, so no lower.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
gc.set_threshold(100_000, 20, 20)  # what JAX has traced is much to look through, and hardly any of it is garbage


def pytest_configure(config: pytest.Config) -> None:
    """Say where tests that run at the same time, and the processes that they start, leave what all of them need."""
    if not hasattr(config, "workerinput"):  # a worker has the environment of the process that started it
        folder = tempfile.mkdtemp(prefix="simfer-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["SIMFER_TESTS_SCRATCH"] = folder
    if hasattr(config, "cache"):  # not with -p no:cacheprovider; what was compiled is there for the next run as well
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("compiled"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of folders whose tests run the chain, or most of it: `make quick` leaves them out."""
    for item in items:
        if item.path.parent.name in _CHAIN:
            item.add_marker(pytest.mark.chain)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Forget what was compiled and not asked for in a fortnight."""
    if hasattr(session.config, "cache") and not hasattr(session.config, "workerinput"):
        for file in session.config.cache.mkdir("compiled").iterdir():
            if time.time() - max(file.stat().st_atime, file.stat().st_mtime) > 14 * 24 * 3600:
                file.unlink()


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
