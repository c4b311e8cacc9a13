"""UM-Bridge 1.0, a server's side of it: requests as plain data in, answers as plain data out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from simfer.stages.emulator.vectors import Vectors

_SUPPORT = {"Evaluate": True, "Gradient": True, "ApplyJacobian": True, "ApplyHessian": False}
_OUTSIDE = "error", "ignore"


class Refused(Exception):
    """A request has no answer but an error of the protocol's: its type, an HTTP status, and words."""

    def __init__(self, kind: str, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.kind, self.code = kind, code


def answer(path: str, asked: Any, models: Mapping[str, Vectors]) -> dict[str, Any]:
    """Answer a request to a path; raise `Refused` where the protocol has an error for it."""
    if path not in _ANSWERS:
        code = 400 if path == "/ApplyHessian" else 404
        raise Refused("UnsupportedFeature", f"there is no {path}; expected one of {', '.join(_ANSWERS)}", code)
    if not isinstance(asked, dict):
        raise Refused("InvalidInput", "expected a JSON object")
    name = asked.get("name")
    if not isinstance(name, str) or name not in models:
        raise Refused("ModelNotFound", f"got the model {name!r}, expected one of {', '.join(models)}")
    return _ANSWERS[path](models[name], asked)


def _info(model: Vectors, asked: dict[str, Any]) -> dict[str, Any]:
    return {"support": _SUPPORT}


def _input_sizes(model: Vectors, asked: dict[str, Any]) -> dict[str, Any]:
    return {"inputSizes": model.input_sizes}


def _output_sizes(model: Vectors, asked: dict[str, Any]) -> dict[str, Any]:
    return {"outputSizes": model.output_sizes}


def _evaluate(model: Vectors, asked: dict[str, Any]) -> dict[str, Any]:
    return {"output": [_finite(each) for each in model.evaluate(_point(model, asked))]}


def _gradient(model: Vectors, asked: dict[str, Any]) -> dict[str, Any]:
    x, out = _point(model, asked), _which(model, asked)
    return {"output": _finite(model.gradient(x, out, _vector(asked.get("sens"), model.output_sizes[out], "sens")))}


def _jacobian(model: Vectors, asked: dict[str, Any]) -> dict[str, Any]:
    x, out = _point(model, asked), _which(model, asked)
    return {"output": _finite(model.apply_jacobian(x, out, _vector(asked.get("vec"), len(x), "vec")))}


_ANSWERS: dict[str, Callable[[Vectors, dict[str, Any]], dict[str, Any]]] = {
    "/ModelInfo": _info,
    "/InputSizes": _input_sizes,
    "/OutputSizes": _output_sizes,
    "/Evaluate": _evaluate,
    "/Gradient": _gradient,
    "/ApplyJacobian": _jacobian,
}


def _point(model: Vectors, asked: dict[str, Any]) -> Float[np.ndarray, " size"]:
    """Return the point that is asked for: outside of the emulator's domain only if the config says so."""
    given, config = asked.get("input"), asked.get("config") or {}
    if not isinstance(given, list) or len(given) != 1:
        raise Refused("InvalidInput", "input: expected a list of one vector, of the parameters in their order")
    x = _vector(given[0], model.input_sizes[0], "input")
    if not isinstance(config, dict) or not set(config) <= {"outside"} or config.get("outside", "error") not in _OUTSIDE:
        raise Refused("InvalidInput", f'config: got {config!r}, expected {{}} or {{"outside": "ignore"}}')
    if config.get("outside") != "ignore" and not model.inside(x):
        raise Refused(
            "InvalidInput",
            f"{dict(zip(model.emulator.space.names, x.tolist(), strict=True))} lies outside of the domain that the "
            'emulator was trained in; the config {"outside": "ignore"} has it answer all the same',
        )
    return x


def _which(model: Vectors, asked: dict[str, Any]) -> int:
    """Return which output vector is asked for; there is one input vector."""
    out, num = asked.get("outWrt"), len(model.output_sizes)
    if type(out) is not int or not 0 <= out < num:
        raise Refused("InvalidInput", f"outWrt: got {out!r}, expected 0 to {num - 1}")
    if (into := asked.get("inWrt")) != 0 or type(into) is not int:
        raise Refused("InvalidInput", f"inWrt: got {into!r}, expected 0, as there is one input vector")
    return out


def _vector(given: Any, size: int, name: str) -> Float[np.ndarray, " size"]:
    numbers = isinstance(given, list) and all(type(each) in (int, float) for each in given)
    if not numbers or len(given) != size:
        raise Refused("InvalidInput", f"{name}: got {str(given)[:100]}, expected {size} numbers")
    try:
        vector = np.array(given, float)
    except OverflowError:
        vector = np.full(size, np.inf)
    if not np.isfinite(vector).all():
        raise Refused("InvalidInput", f"{name}: got {str(given)[:100]}, expected finite numbers")
    return vector


def _finite(values: np.ndarray) -> list[float]:
    """Return numbers that JSON has."""
    if not np.isfinite(values).all():
        raise Refused("InvalidOutput", "the emulator gives no finite number there", 500)
    found: list[float] = values.tolist()
    return found
