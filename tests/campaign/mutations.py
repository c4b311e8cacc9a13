"""Nonsense that looks like what people write: a few things changed in what is right, or bytes at random."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

_NUMBERS = [0, 1, -1, 0.0, -1.0, 1e-300, 1e300, 1e308, float("inf"), float("nan"), 2**31, 2**63, 2**80, 10**400]
_TEXTS = ["", " ", "x", "..", "/etc/passwd", "a/b", "\0", "𝜔", "\ud800", "y" * 300, "my.py:Name", "Normal"]
_TREES = [[], [1], [[]], ["x"], {}, {"dist": "Normal"}, {"dist": "Uniform", "low": 1.0, "high": 0.0}, {"dist": 3}]
ODD: list[Any] = [None, True, False, *_NUMBERS, *_TEXTS, *_TREES, {"x": {"y": {"z": 1}}}]
_FULL_WIDTH, _MARK = "\uff11\uff12", "\ufeff"  # digits that are none of ASCII's; what some editors begin a file with
CELLS = ["", " ", "nan", "-nan", "inf", "1_000", "1e400", "1,5", "-", "x", "\0", '"', "'", ";", "\t", "0x10", "1e5"]
CELLS += [_FULL_WIDTH, _MARK]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value in nested tables and lists."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def table(right: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Change one to three things in nested tables: a value, or an entry that is taken out, put in, or named anew."""
    changed = deepcopy(right)
    for _ in range(rng.randint(1, 3)):
        ways = list(places(changed))
        if ways:
            _change(changed, rng.choice(ways), rng)
    return changed


def _change(tree: Any, way: tuple[Any, ...], rng: random.Random) -> None:
    *path, last = way
    for key in path:
        tree = tree[key]
    kind = rng.choice(["value", "value", "out", "in", "named"])
    if kind == "out":
        del tree[last]
    elif kind == "in" and isinstance(tree, dict):
        tree[str(rng.choice(ODD))[:300]] = deepcopy(rng.choice(ODD))
    elif kind == "named" and isinstance(tree, dict):
        tree[str(last)[::-1]] = tree.pop(last)
    else:
        tree[last] = deepcopy(rng.choice(ODD))


def text(right: str, rng: random.Random) -> bytes:
    """Change some bytes, lines or cells of a text."""
    content = bytearray(right.encode())
    kind = rng.choice(["bytes", "cell", "line", "cut", "twice", "noise", "encoding"])
    if kind == "bytes":
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(len(content))] = rng.randrange(256)
    elif kind == "cell":
        cells = right.split(",")
        cells[rng.randrange(len(cells))] = rng.choice(CELLS)
        return ",".join(cells).encode("utf-8", "surrogateescape")
    elif kind == "line":
        lines = right.splitlines()
        lines[rng.randrange(len(lines))] = rng.choice(CELLS) * rng.randint(1, 4)
        return "\n".join(lines).encode()
    elif kind == "cut":
        return bytes(content[: rng.randrange(len(content))])
    elif kind == "twice":
        return bytes(content * 2)
    elif kind == "noise":
        return rng.randbytes(rng.randint(0, 300))
    else:
        return right.encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"]))
    return bytes(content)
