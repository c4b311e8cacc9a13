"""The last picture of each kind that was written, kept for the page of the run, which shows it once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import wraps
from hashlib import sha256
from inspect import signature
from typing import Any, Concatenate, ParamSpec

import numpy as np

from simfer.stages.plots.figures import Held, Place, current_look, write
from simfer.stages.plots.layout import ShownFigure

P = ParamSpec("P")
_kept: dict[str, tuple[bytes, ShownFigure]] = {}  # by kind, so that there are but a few


class Again(Held):
    """In a file's place: takes the figure that was written of the same, if there is one, without its title.

    What it takes is its own, and is kept no longer.
    """


def kept(draw: Callable[Concatenate[Place, P], None]) -> Callable[Concatenate[Place, P], None]:
    """Have the last figure kept that is written of a kind."""

    @wraps(draw)
    def drawn(file: Place, /, *shown: P.args, **named: P.kwargs) -> None:
        if isinstance(file, Held) and not isinstance(file, Again):
            return draw(file, *shown, **named)
        bound = signature(draw).bind(file, *shown, **named)
        bound.apply_defaults()
        look = current_look()
        key = _digest([*list(bound.arguments.values())[1:], look.log, look.width, look.style])
        if isinstance(file, Again):
            before, figure = _kept.pop(draw.__name__, (b"", None))
            if figure is None or before != key:
                return draw(file, *shown, **named)
            figure.untitle()
            file.figure = figure
            return None
        held = Held()
        draw(held, *shown, **named)
        write(held.figure, file)
        _kept[draw.__name__] = key, held.figure
        return None

    return drawn


def _digest(shown: Any) -> bytes:
    """Return what tells pictures by what they show: the same for the same numbers and words."""
    digest = sha256()

    def add(each: Any) -> None:
        if is_dataclass(each):
            each = vars(each)
        if each is None or isinstance(each, str | int | float):
            digest.update(f"{each!r};".encode())
        elif isinstance(each, Mapping):
            add(list(each.items()))
        elif isinstance(each, Sequence):
            digest.update(f"{len(each)} of ".encode())
            for one in each:
                add(one)
        else:
            array = np.asarray(each)
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())

    add(shown)
    return digest.digest()
