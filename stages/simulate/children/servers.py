"""A model behind UM-Bridge 1.0, asked over HTTP for each row: what the child does."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from simfer.stages.model.outputs import Status
from simfer.stages.simulate.children.failed import Failed, Unreachable
from simfer.stages.simulate.children.returned import BadOutput, Expected, Returned, Value


class Server:
    """A model of a server; its input vectors are made of named parameters, and its output vectors get names."""

    expected: Expected | None = None
    leaves_folders = False

    def __init__(self, spec: Mapping[str, Any]) -> None:
        address = urlsplit(spec["address"])
        self._host, self._spec = address.netloc, spec
        self._https, self._prefix = address.scheme == "https", address.path.rpartition("/")[0]
        self._name = address.path.rpartition("/")[2]
        self._inputs: list[list[str]] = spec["inputs"]
        self._connection: http.client.HTTPConnection | None = None
        self._wants = spec["derivatives"]
        sizes = self._ask("/InputSizes", {"name": self._name, "config": spec["config"]})["inputSizes"]
        if sizes != [len(names) for names in self._inputs]:
            given = [len(names) for names in self._inputs]
            raise ValueError(f"simulate.server.inputs names {given} parameters, and the model takes vectors of {sizes}")
        support = self._ask("/ModelInfo", {"name": self._name})["support"]
        if self._wants and not support.get("ApplyJacobian"):
            raise ValueError("simulate.derivatives: the model has no ApplyJacobian; leave it out")

    def facts(self) -> dict[str, Any]:
        """Say which parameters the model takes."""
        names = [name for each in self._inputs for name in each]
        return {"parameters": dict.fromkeys(names, ""), "any": False, "optional": [], "outputs": None,
                "stochastic": False}  # fmt: skip

    def particulars(self) -> dict[str, Any]:
        """Say what a driver should know of the last row: the derivatives, where they are wanted."""
        return {"slopes": self._slopes} if self._wants else {}

    def run(self, row: int, parameters: dict[str, float], seed: int | None, folder: str) -> Returned:
        """Ask for one evaluation."""
        vectors = [[parameters[name] for name in names] for names in self._inputs]
        asked = {"name": self._name, "input": vectors, "config": self._spec["config"]}
        flat = _flat(self._ask("/Evaluate", asked)["output"])
        found = self._named(flat)
        if self._wants:
            self._slopes = {name: self._along(name, asked) for name in self._spec["free"]}
        return found

    def _along(self, name: str, asked: dict[str, Any]) -> list[float]:
        """Return the derivatives of all outputs by one parameter, in the order of the outputs."""
        slopes = []
        for out in range(len(self._sizes)):
            for vector, names in enumerate(self._inputs):
                if name in names:
                    direction = [float(each == name) for each in names]
                    more = {"outWrt": out, "inWrt": vector, "vec": direction}
                    slopes.append(self._ask("/ApplyJacobian", asked | more)["output"])
        flat = np.array([np.nan if each is None else each for part in slopes for each in part], float)
        named = self._named(flat)
        return np.concatenate([value.values.reshape(-1) for value in named.outputs.values()]).tolist()

    def _named(self, flat: np.ndarray) -> Returned:
        outputs, coords, at = dict[str, Value](), dict[str, np.ndarray](), 0
        for name, wanted in self._spec["outputs"].items():
            shape = tuple(len(each) for each in wanted["coords"].values())
            size = int(np.prod(shape, dtype=int))
            if at + size > len(flat):
                raise BadOutput(
                    f"output {name}: the model gives {len(flat)} values in all, fewer than the config names"
                )
            outputs[name] = Value(tuple(wanted["coords"]), flat[at : at + size].reshape(shape), wanted["unit"])
            coords |= {dim: np.asarray(each, float) for dim, each in wanted["coords"].items()}
            at += size
        if at < len(flat):
            raise BadOutput(f"the model gives {len(flat)} values, of which simulate.server.outputs names {at}")
        return Returned(outputs, coords, {})

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        for attempt in (1, 2):  # a connection that was kept may have been closed at the other end
            try:
                return self._answered(path, body)
            except (ConnectionError, http.client.HTTPException, OSError) as error:
                self._connection = None
                if attempt == 2:
                    raise Unreachable(f"{self._spec['address']}: {type(error).__name__}: {error}") from None
        raise AssertionError

    def _answered(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
            self._connection = kind(self._host)
        text = json.dumps(body)
        self._connection.request("POST", f"{self._prefix}{path}", text, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        said = answer.read().decode(errors="replace")
        try:
            found = json.loads(said)
        except ValueError:
            found = {}
        if error := found.get("error") if isinstance(found, dict) else None:
            raise Failed(Status.OTHER, f"the server answered {error.get('type')}: {error.get('message')}")
        if answer.status == 500:  # what the protocol's own package answers where the model raises
            raise Failed(Status.OTHER, f"the server answered 500 {answer.reason}: {said[:200]}".rstrip(": \n"))
        if answer.status > 500:
            raise ConnectionError(f"the server answered {answer.status} {answer.reason}")
        if answer.status != 200 or not isinstance(found, dict):
            raise BadOutput(f"{path}: the server answered {answer.status}: {said[:200]}")
        self._sizes = found.get("output", [[]]) if path == "/Evaluate" else getattr(self, "_sizes", [[]])
        return found


def _flat(vectors: Any) -> np.ndarray:
    """Join output vectors; null is what JSON has for NaN."""
    try:
        return np.array([np.nan if each is None else each for part in vectors for each in part], float)
    except (TypeError, ValueError):
        raise BadOutput(f"/Evaluate: got the output {str(vectors)[:100]}, expected lists of numbers") from None
