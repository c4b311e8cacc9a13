"""What XLA is asked to compile, be it in its cache on disk or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

_ASKED = "/jax/core/compile/backend_compile_duration"


@contextmanager
def programs() -> Iterator[list[str]]:
    """List the programs that are compiled meanwhile, by their names."""
    names: list[str] = []

    def listen(event: str, _: float, **about: Any) -> None:
        if event == _ASKED:
            names.append(str(about.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
