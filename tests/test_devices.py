"""What there is little of is computed on the processor beside an accelerator, unless somebody chose otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import BoundedSemaphore, Lock

import jax
import jax.numpy as jnp
import pytest

from simfer.pipeline import chain, config, runtime
from simfer.stages import devices
from simfer.stages.devices import chosen, local_devices, on_processor, platform, running
from simfer.stages.threads import map_in_threads
from tests.helpers import SMOKE


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have JAX say that its devices are accelerators; what computes is a processor all the same."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    yield
    jax.config.update("jax_default_device", None)


def test_a_processor_by_itself_needs_no_choice() -> None:
    with on_processor():
        assert chosen() is None and platform() == "cpu" and len(local_devices()) == 1


def test_beside_an_accelerator_the_processor_is_chosen_for_a_while(beside: None) -> None:
    assert platform() == "gpu"
    with on_processor():
        assert platform() == "cpu" and chosen().platform == "cpu"
        with on_processor():  # a stage within a study
            assert platform() == "cpu"
        assert platform() == "cpu" and len(local_devices()) == 1
        assert jnp.ones(2).devices() == {chosen()}
    assert chosen() is None and platform() == "gpu"


def test_what_fails_leaves_no_choice_behind(beside: None) -> None:
    with pytest.raises(ZeroDivisionError), on_processor():
        raise ZeroDivisionError
    assert chosen() is None


def test_a_choice_of_the_users_is_not_passed_over(beside: None) -> None:
    jax.config.update("jax_default_device", "gpu")
    with on_processor():
        assert chosen() == "gpu" and platform() == "gpu"
    assert chosen() == "gpu"


def test_a_manifest_names_what_computed_the_step(beside: None) -> None:
    with on_processor():
        assert runtime.device().startswith(jax.devices("cpu")[0].device_kind)


def test_no_more_programs_run_than_there_are_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    slots, lock, at_once = BoundedSemaphore(2), Lock(), 0
    monkeypatch.setattr(devices, "_slots", lambda: slots)

    def count(change: int) -> int:
        nonlocal at_once
        with lock:
            at_once += change
            return at_once

    def busy(_: int) -> int:
        with running(), running():  # the second is within the first: it takes no slot of its own
            here = count(1)
            time.sleep(0.01)
            count(-1)
        return here

    assert set(map_in_threads(busy, range(20), 8)) <= {1, 2}
    with pytest.raises(ZeroDivisionError), running():
        raise ZeroDivisionError
    assert max(map_in_threads(busy, range(20), 8)) == 2


@pytest.mark.parametrize(
    ("stage", "overrides", "on"),
    [
        ("simulate", [], "gpu"),
        ("dataset", [], "cpu"),
        ("train", [], "gpu"),
        ("infer", [], "cpu"),
        ("infer", ["infer.num_chains=256"], "gpu"),
        ("check", [], "cpu"),
    ],
)
def test_each_stage_says_what_is_enough_for_an_accelerator(
    stage: str, overrides: list[str], on: str, beside: None, tmp_path: Path
) -> None:
    links = chain.links(config.load(SMOKE, overrides), chain.Turn(0, 512))
    with chain.placed(next(link for link in links if link.stage == stage)):
        assert platform() == on
