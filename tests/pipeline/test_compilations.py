"""What was compiled once is there for the next process, and never for another machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simfer.pipeline import compilations
from tests import fakes

COUNT = """
import collections
from simfer.pipeline import runtime
runtime.prepare()
import jax
from jax import monitoring
counts = collections.Counter()
monitoring.register_event_listener(lambda name, **more: counts.update([name.rsplit("/", 1)[-1]]))
print(jax.jit(lambda x: x * 2.5 + 1)(4.0))
print(counts["cache_hits"], counts["cache_misses"])
"""

ROOM = """
import pathlib, sys
from simfer.pipeline import compilations, runtime
runtime.prepare()
import jax, jax.numpy as jnp
held = lambda: len(pathlib.Path("/proc/self/maps").read_text().splitlines())
programs = [jax.jit(lambda x, n=n: jnp.linalg.cholesky(x @ x.T + n * jnp.eye(3))) for n in range(1, 22)]
programs[0](jnp.ones((3, 3)))  # after the first, libraries are loaded
before = held()
[program(jnp.ones((3, 3))) for program in programs]
known = held()
compilations.make_room()
print(held() >= known)
compilations._MOST_MAPS = pathlib.Path(sys.argv[1])
compilations._MOST_MAPS.write_text("90")
compilations.make_room()
print(known - held() > (known - before) // 2)
"""


def run(home: Path, **more: str) -> list[str]:
    ours = {name: value for name, value in fakes.process()["env"].items() if not name.startswith(("JAX_", "XDG_"))}
    environment = ours | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")} | more
    command = [sys.executable, "-c", COUNT]
    done = subprocess.run(command, cwd=fakes.ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return [*done.stdout.split("\n")[:2], done.stderr]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return compilations.cache_folder()


@pytest.mark.skipif(sys.platform == "darwin", reason="the folder is not named by XDG_CACHE_HOME")
class TestKept:
    def test_by_one_process_for_the_next_and_a_broken_one_costs_a_warning(self, tmp_path: Path) -> None:
        assert run(tmp_path)[:2] == ["11.0", "0 1"]
        assert run(tmp_path)[:2] == ["11.0", "1 0"]
        kept = [file for file in tmp_path.rglob("jit__lambda*") if file.stat().st_size > 100]
        assert len(kept) == 1
        kept[0].write_bytes(kept[0].read_bytes()[:50])
        value, _, warned = run(tmp_path)
        assert value == "11.0" and "Error reading persistent compilation cache entry" in warned
        assert "Traceback" not in warned
        value, counts, warned = run(tmp_path)  # and is written anew
        assert (value, counts) == ("11.0", "1 0") and "Error reading" not in warned

    def test_unless_that_is_not_wanted_or_cannot_be(self, tmp_path: Path) -> None:
        assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="0")[:2] == ["11.0", "0 0"]
        (tmp_path / "cache").write_text("a file, where the folder should be")
        assert run(tmp_path)[:2] == ["11.0", "0 0"]

    def test_for_each_kind_of_machine_by_itself(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"):
            monkeypatch.delenv(name, raising=False)
        seen = set()
        for processor in ("flags: avx2", "flags: avx2 avx512f"):
            monkeypatch.setattr(compilations, "_processor", lambda told=processor: told)
            seen.add(compilations._machine())
        assert len(seen) == 2

    def test_until_there_is_too_much_and_the_longest_unused_go(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compilations, "_MAX_BYTES", 250)
        (folder / "machine").mkdir(parents=True)
        for age in range(4):
            file = folder / "machine" / f"program-{age}"
            file.write_bytes(b"x" * 100)
            os.utime(file, (1e9 - age, 1e9 - age))
        compilations._sweep(folder)
        assert sorted(file.name for file in folder.glob("*/*")) == ["program-0", "program-1"]
        (folder / "machine" / "program-4").write_bytes(b"x" * 1000)
        compilations._sweep(folder)  # not twice a day
        assert (folder / "machine" / "program-4").exists()


@pytest.mark.skipif(not Path("/proc/sys/vm/max_map_count").exists(), reason="no Linux: no such bound")
def test_programs_are_let_go_of_before_the_system_has_no_room_for_more(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ROOM, str(tmp_path / "most")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=fakes.process()["env"])
    assert done.stdout.splitlines() == ["True", "True"]
