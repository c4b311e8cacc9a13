"""Parameters that are vectors, written out: a number each, `effect[0]` and so on, and how arrays are made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from simfer.stages.settings.joint import JointPrior

Table = dict[str, Any]
_JOINT = ("Dirichlet", "LKJ", "MultivariateNormal")  # families of vectors
_PLAIN = ("unit", "label", "edge", "per", "periodic")  # what is of a number whatever its prior


def written_out(given: Mapping[str, Any]) -> Table:
    """Return a config whose vectors are parameters of one number each; the simulator is told of which to make arrays.

    What a Dirichlet's last share comes to is derived from the others.
    """
    parameters = given.get("parameters")
    vectors = {name: value for name, value in parameters.items() if _is_vector(value)} if parameters else {}
    if not vectors or parameters is None:
        return dict(given)
    sizes = {name: _size(name, value) for name, value in vectors.items()}
    written: Table = {}
    arrays: Table = {}
    derived: Table = {}
    for name, value in parameters.items():
        if name not in vectors:
            written[name] = value
            continue
        numbers, arrays[name] = _form(name, value)(name, value, sizes)
        if both := [each for each in numbers if each in parameters]:
            raise ValueError(f"parameters.{both[0]} has a place in parameters.{name} too; leave one out")
        written |= numbers
        if isinstance(value, Mapping) and value.get("dist") == "Dirichlet":
            last = sizes[name] - 1
            derived[f"{name}[{last}]"] = {"formula": arrays[name][-1]} | _told(value, last, ("unit", "label"))
    simulate = {**given.get("simulate", {}), "vectors": arrays}
    more = {"derived": {**derived, **given.get("derived", {})}} if derived else {}
    return {**given, "parameters": written, "simulate": simulate, **more}


def _is_vector(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "size" in value or "ordered" in value or value.get("dist") in _JOINT
    return isinstance(value, list)


def _size(name: str, value: Any) -> int:
    """Return how many numbers a vector has; of correlations, how many lie below the diagonal."""
    if isinstance(value, list):
        size: Any = len(value)
    elif value.get("dist") == "LKJ":
        dimension = value.get("dimension")
        if not isinstance(dimension, int) or dimension < 2:
            raise ValueError(f"parameters.{name}.dimension: got {dimension!r}, expected a whole number of at least 2")
        size = dimension * (dimension - 1) // 2
    else:
        given = value.get("covariance" if value.get("dist") == "MultivariateNormal" else "concentration")
        size = value.get("size", len(given) if isinstance(given, list) else None)
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 1000:
        raise ValueError(f"parameters.{name}.size: got {size!r}, expected how many numbers it has, at most 1000")
    return size


def _form(name: str, value: Any) -> Callable[[str, Any, Mapping[str, int]], tuple[Table, list[Any]]]:
    if isinstance(value, list):
        return _fixed
    if value.get("dist") in _JOINT:
        return {"Dirichlet": _dirichlet, "LKJ": _correlations, "MultivariateNormal": _gaussian}[value["dist"]]
    if value.get("ordered", False) not in (True, False):
        raise ValueError(f"parameters.{name}.ordered: got {value['ordered']!r}, expected true or false")
    return _ordered if value.get("ordered") else _each


def _names(name: str, size: int) -> list[str]:
    return [f"{name}[{i}]" for i in range(size)]


def _fixed(name: str, value: list[Any], sizes: Mapping[str, int]) -> tuple[Table, list[Any]]:
    names = _names(name, sizes[name])
    return dict(zip(names, value, strict=True)), [f"`{each}`" for each in names]


def _each(name: str, value: Table, sizes: Mapping[str, int]) -> tuple[Table, list[Any]]:
    """Give each number the prior, with its own element of lists and of other vectors."""
    names = _names(name, sizes[name])
    prior = {key: inner for key, inner in value.items() if key not in ("size", "ordered")}
    numbers = {
        each: {key: _element(f"{name}.{key}", inner, i, sizes[name], sizes) for key, inner in prior.items()}
        | _told(value, i, ("label",))
        for i, each in enumerate(names)
    }
    return numbers, [f"`{each}`" for each in names]


def _element(place: str, value: Any, i: int, size: int, sizes: Mapping[str, int]) -> Any:
    if isinstance(value, list):
        if len(value) != size:
            raise ValueError(f"parameters.{place}: got {len(value)} numbers, expected {size}, one for each")
        return value[i]
    if not isinstance(value, str) or place.rpartition(".")[2] in ("dist", *_PLAIN):
        return value
    for other, length in sizes.items():
        found = re.search(pattern := rf"(?<![\w.`]){re.escape(other)}(?![\w.\[`(])", value)
        if found and length != size:
            raise ValueError(f"parameters.{place}: {other} has {length} numbers, expected {size}, one for each")
        value = re.sub(pattern, f"`{other}[{i}]`", value)
    return value


def _ordered(name: str, value: Table, sizes: Mapping[str, int]) -> tuple[Table, list[Any]]:
    """Give the numbers one prior, and an order: each is above the one before it."""
    names, size = _names(name, sizes[name]), sizes[name]
    own = ("size", "ordered", "unit", "label", "edge", "per")
    base = {key: inner for key, inner in value.items() if key not in own}
    if many := [key for key, inner in base.items() if isinstance(inner, list)]:
        raise ValueError(f"parameters.{name}.{many[0]}: got a list; numbers with an order have one prior")
    numbers = {
        each: {"dist": "OrderedPart", "base": base, "left": size - i, "after": names[max(i - 1, 0) : i]}
        | _told(value, i)
        for i, each in enumerate(names)
    }
    return numbers, [f"`{each}`" for each in names]


def _dirichlet(name: str, value: Table, sizes: Mapping[str, int]) -> tuple[Table, list[Any]]:
    """Give all shares but the last one, which is what they leave, a prior."""
    size, given = sizes[name], value.get("concentration", 1.0)
    weights = list(given) if isinstance(given, list) else [given] * size
    if len(weights) != size or size < 2:
        raise ValueError(f"parameters.{name}.concentration: got {len(weights)} numbers for {size} shares; 2 or more")
    if wrong := [each for each in weights if not isinstance(each, (int, float)) or not each > 0]:
        raise ValueError(f"parameters.{name}.concentration: got {wrong[0]!r}, expected numbers > 0")
    _refuse_others(name, value, ("concentration", "size"))
    names = _names(name, size)[:-1]
    numbers = {
        each: {
            "dist": "DirichletPart",
            "concentration1": float(weights[i]),
            "concentration0": float(sum(weights[i + 1 :])),
            "after": names[:i],
        }
        | _told(value, i)
        for i, each in enumerate(names)
    }
    return numbers, [*(f"`{each}`" for each in names), "1 - " + " - ".join(f"`{each}`" for each in names)]


def _gaussian(name: str, value: Table, sizes: Mapping[str, int]) -> tuple[Table, list[Any]]:
    """Give the numbers a joint normal prior, or their logarithms."""
    _refuse_others(name, value, ("loc", "covariance", "transform", "size"))
    names = _names(name, sizes[name])
    given = {key: value[key] for key in ("loc", "covariance", "transform") if key in value}
    try:
        chain = JointPrior.model_validate({"names": names, **given}).chain()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"parameters.{name}.{'.'.join(map(str, first['loc']))}: {what}".replace(".:", ":")) from None
    return {each: chain[each] | _told(value, i) for i, each in enumerate(names)}, [f"`{each}`" for each in names]


def _correlations(name: str, value: Table, sizes: Mapping[str, int]) -> tuple[Table, list[Any]]:
    """Give the correlations below the diagonal a prior, row by row; the simulator has the whole matrix."""
    _refuse_others(name, value, ("concentration", "dimension"))
    dimension, concentration = value["dimension"], value.get("concentration", 1.0)
    names = {(i, j): f"{name}[{i},{j}]" for i in range(dimension) for j in range(i)}
    numbers, before = {}, list[str]()
    for (i, j), each in names.items():
        part = {"dist": "LKJPart", "concentration": concentration, "dimension": dimension, "row": i, "column": j}
        numbers[each] = {**part, "after": list(before)} | _told(value, None)
        before.append(each)
    of = {**names, **{(j, i): each for (i, j), each in names.items()}}
    return numbers, [[f"`{of[i, j]}`" if i != j else "1.0" for j in range(dimension)] for i in range(dimension)]


def _refuse_others(name: str, value: Table, known: tuple[str, ...]) -> None:
    if others := [key for key in value if key not in ("dist", *known, *_PLAIN)]:
        raise ValueError(f"parameters.{name}.{others[0]}: unknown key (known: {', '.join(known)}, unit, label)")


def _told(value: Mapping[str, Any], i: int | None, keys: tuple[str, ...] = ("unit", "label", "edge", "per")) -> Table:
    """Return what is said of each number; a label with its place."""
    told = {key: value[key] for key in keys if key in value}
    if "label" in told and i is not None:
        told["label"] = f"{{{told['label']}}}_{{{i}}}"
    return told
