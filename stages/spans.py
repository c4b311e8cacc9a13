"""What a stage is at now and then (it draws, it writes): whoever runs it may time that, and no stage sees a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

Watch = Callable[[str], AbstractContextManager[None]]
_watching: list[Watch] = []


@contextmanager
def span(part: str) -> Iterator[None]:
    """Say that what follows is of one part of the work, such as "draw"."""
    with ExitStack() as stack:
        for watch in _watching:
            stack.enter_context(watch(part))
        yield


@contextmanager
def watched_by(watch: Watch) -> Iterator[None]:
    """Have every span enter what `watch` gives for its part."""
    _watching.append(watch)
    try:
        yield
    finally:
        _watching.remove(watch)
