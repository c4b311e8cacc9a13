"""Beside the chain: an emulator as a server of UM-Bridge 1.0 (Seelinger et al. 2023), for this machine alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.emulator.umbridge import Refused, answer
from simfer.stages.emulator.vectors import METHODS, Vectors
from simfer.stages.errors import SimferError
from simfer.stages.progress import Progress
from simfer.stages.settings import TrainConfig
from simfer.stages.summary import Summary

_HOST = "127.0.0.1"
_MOST = 2**24  # bytes of a request


def run(config: TrainConfig, emulator: Path, progress: Progress, *, port: int) -> Summary:
    """Serve until the process is interrupted; port 0 takes one that is free."""
    trained = load_emulator(emulator, config.train.architecture, config.train.candidates, "ignore")
    if not trained.space.names:
        raise SimferError("the emulator has no free parameter: there is nothing to serve")
    with build_server(trained, port) as server:
        address = f"http://{_HOST}:{server.server_port}"
        for line in _said(trained, address):
            progress.note(line)
        with suppress(KeyboardInterrupt):  # as it is meant to end
            server.serve_forever(poll_interval=0.1)
    return {"facts": {"address": address}}


def build_server(emulator: Emulator, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of an emulator's models, bound to a port and not started."""
    names = [name for name in METHODS if name != "scatter" or emulator.random is not None]
    models = {name: Vectors(emulator, METHODS[name]) for name in names}
    try:
        return ThreadingHTTPServer((_HOST, port), type("Handler", (_Handler,), {"models": models}))
    except OSError as error:
        what = error.strerror or error
        raise SimferError(f"--port {port} cannot be had ({what}); name another, or 0 for any that is free") from error


def _said(emulator: Emulator, address: str) -> list[str]:
    """Say what is served: vectors have no names of their own."""
    outputs = [f"{name} ({output.size})" for name, output in emulator.layout.outputs.items()]
    return [
        f"serving the emulator at {address} (UM-Bridge 1.0), to this machine alone; Ctrl-C ends it",
        f"  input: one vector: {', '.join(emulator.space.names)}",
        f"  output: a vector each: {', '.join(outputs)}",
    ]


class _Handler(BaseHTTPRequestHandler):
    """One connection, which is kept from request to request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece: in two, the second waits for the first to be acknowledged
    models: ClassVar[Mapping[str, Vectors]]

    def do_GET(self) -> None:
        """Say which models there are."""
        if self.path == "/Info":
            self._send(200, {"protocolVersion": 1.0, "models": list(self.models)})
        else:
            self._send(404, _error("UnsupportedFeature", f"there is no GET {self.path}"))

    def do_POST(self) -> None:
        """Answer a request about a model."""
        try:
            self._send(200, answer(self.path, self._body(), self.models))
        except Refused as error:
            self._send(error.code, _error(error.kind, str(error)))

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MOST:
            self.close_connection = True  # what follows is no request
            raise Refused("InvalidInput", f"got Content-Length {length!r}, expected at most {_MOST} bytes of JSON")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Refused("InvalidInput", f"the request is no JSON: {error}") from error

    def _send(self, code: int, said: dict[str, Any]) -> None:
        content = json.dumps(said, allow_nan=False).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}
