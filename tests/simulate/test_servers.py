"""Models behind UM-Bridge: a server of the protocol on loopback is asked, fails, and goes away."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_connection, socket
from threading import Thread
from typing import Any

import numpy as np
import pytest

from simfer.pipeline.chain import ConfigError, Problem, StageError, UserCodeError
from simfer.stages.artifacts.arrays import DERIVATIVES
from simfer.stages.artifacts.simulations import Simulations
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.preflight import mistakes
from simfer.stages.progress import Silent
from simfer.stages.simulate.rows import fill
from tests import helpers


class Model(BaseHTTPRequestHandler):
    """The line y = intercept + slope x, as UM-Bridge 1.0 serves it; it goes wrong at slopes far from -1."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece
    most = 10**9  # evaluations, after which the server is gone

    def do_POST(self) -> None:
        """Answer one request."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answers = {"/InputSizes": self._sizes, "/ModelInfo": self._info, "/Evaluate": self._evaluate,
                   "/ApplyJacobian": self._jacobian}  # fmt: skip
        status, answer = answers[self.path](asked)
        if status == 0:
            self.close_connection = True
            return
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _sizes(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {"inputSizes": [1, 1]}

    def _info(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {"support": {"Evaluate": True, "ApplyJacobian": True}}

    def _evaluate(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        type(self).most -= 1
        if type(self).most < 0:
            return 0, {}
        ((intercept,), (slope,)) = asked["input"]
        if slope < -1.5:
            return 400, {"error": {"type": "InvalidInput", "message": f"no slope of {slope}"}}
        if slope < -1.4:
            return 200, {"output": [[None] * 9, [intercept]]}
        if slope > 0.1:
            return 200, {"output": [[1.0], [2.0]]}
        return 200, {"output": [[intercept + slope * x for x in helpers.X], [intercept]]}

    def _jacobian(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        of_line = [1.0] * 9 if asked["inWrt"] == 0 else helpers.X.tolist()
        of_start = [1.0] if asked["inWrt"] == 0 else [0.0]
        return 200, {"output": [asked["vec"][0] * each for each in (of_line, of_start)[asked["outWrt"]]]}


@contextmanager
def served(most: int = 10**9) -> Iterator[str]:
    """Serve the model, and yield its address."""
    kind = type("Counted", (Model,), {"most": most})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/line"
        finally:
            server.shutdown()
            thread.join()


def problem(address: str, **simulate: Any) -> Problem:
    """Return the line's problem with a server as its simulator."""
    outputs = {"y": {"coords": {"x": helpers.X.tolist()}, "unit": "V"}, "start": {}}
    names = {"inputs": [["intercept"], ["slope"]], "outputs": outputs}
    settings = {"simulator": address, "server": names, "options": None, "num_simulations": 24, "workers": 2} | simulate
    return helpers.problem(helpers.line(simulate=settings))


def simulate(folder: Path, checked: Problem) -> Simulations:
    """Simulate by the server."""
    z = np.random.default_rng(0).normal(size=(checked.simulate.num_simulations, 2))
    space = Space(checked.parameters)
    return fill(folder, checked.simulate, space, len(z), lambda a, b: z[a:b], Silent()).simulations


def test_a_model_of_a_server_gives_rows_with_statuses_and_derivatives(tmp_path: Path) -> None:
    with served() as address:
        checked = problem(address, derivatives=True)
        assert mistakes(checked) == []
        rows = simulate(tmp_path, checked).to_xarray()
    slope, status = rows["slope"].values, rows["status"].values
    ok = (slope >= -1.4) & (slope <= 0.1)
    assert np.array_equal(status == Status.OK, ok)
    assert (status[slope < -1.5] == Status.OTHER).all() and (slope < -1.5).any()
    assert (status[(slope >= -1.5) & (slope < -1.4)] == Status.NOT_FINITE).all()
    expected = rows["intercept"].values[:, None] + slope[:, None] * helpers.X
    assert np.allclose(rows["y"].values[ok], expected[ok], rtol=1e-14) and rows["y"].attrs["units"] == "V"
    by = rows["y" + DERIVATIVES].values[ok]
    assert np.allclose(by[:, 0], 1.0) and np.allclose(by[:, 1], helpers.X)
    assert "InvalidInput: no slope of" in (tmp_path / "failures.csv").read_text()


PACKAGE = """
import sys

import umbridge


class Line(umbridge.Model):
    def get_input_sizes(self, config):
        return [1, 1]

    def get_output_sizes(self, config):
        return [9, 1]

    def supports_evaluate(self):
        return True

    def supports_apply_jacobian(self):
        return True

    def __call__(self, parameters, config):
        (intercept,), (slope,) = parameters
        if slope < -1.5:
            raise ValueError(f"no slope of {slope}")
        return [[intercept + slope * x / 2 for x in range(9)], [intercept]]

    def apply_jacobian(self, out_wrt, in_wrt, parameters, vec, config):
        of_line = [1.0] * 9 if in_wrt == 0 else [x / 2 for x in range(9)]
        of_start = [1.0] if in_wrt == 0 else [0.0]
        return [vec[0] * each for each in (of_line, of_start)[out_wrt]]


umbridge.serve_models([Line("line")], int(sys.argv[1]), max_workers=2)
"""


@contextmanager
def served_by_the_package(folder: Path) -> Iterator[str]:
    """Serve the line by the protocol's own package, and yield its address."""
    (folder / "line.py").write_text(PACKAGE)
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "line.py", str(port)], cwd=folder, stdout=log, stderr=log)
        try:
            while True:
                with suppress(ConnectionRefusedError), create_connection(("127.0.0.1", port)):
                    break
                assert server.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/line"
        finally:
            server.kill()
            server.wait()


def test_a_server_of_the_protocols_own_package_gives_rows_and_derivatives(tmp_path: Path) -> None:
    pytest.importorskip("umbridge")
    with served_by_the_package(tmp_path) as address:
        checked = problem(address, derivatives=True)
        assert mistakes(checked) == []
        rows = simulate(tmp_path, checked).to_xarray()
    slope, status = rows["slope"].values, rows["status"].values
    ok = slope >= -1.5
    assert np.array_equal(status == Status.OK, ok) and (status[~ok] == Status.OTHER).all() and not ok.all()
    assert "the server answered 500 Internal Server Error" in (tmp_path / "failures.csv").read_text()
    expected = rows["intercept"].values[:, None] + slope[:, None] * helpers.X
    assert np.allclose(rows["y"].values[ok], expected[ok], rtol=1e-14)
    by = rows["y" + DERIVATIVES].values[ok]
    assert np.allclose(by[:, 0], 1.0) and np.allclose(by[:, 1], helpers.X)


def test_a_server_that_goes_away_is_no_rows_fault_and_what_was_finished_stays(tmp_path: Path) -> None:
    with served(most=10) as address, pytest.raises(StageError, match="through no fault of its own"):
        simulate(tmp_path, problem(address))
    assert (tmp_path / "journal").is_dir() and not (tmp_path / "failures.csv").exists()
    with pytest.raises(UserCodeError, match=r"the server's model could not be begun: .*Connection refused"):
        mistakes(problem(address, seed=1))


def test_what_the_names_do_not_fit_is_said(tmp_path: Path) -> None:
    with served() as address:
        names = {"inputs": [["intercept", "slope"]], "outputs": {"y": {}}}
        with pytest.raises(UserCodeError, match=r"names \[2\] parameters, and the model takes vectors of \[1, 1\]"):
            mistakes(problem(address, server=names))
        short = {"inputs": [["intercept"], ["slope"]], "outputs": {"y": {"coords": {"x": helpers.X.tolist()}}}}
        (found,) = mistakes(problem(address, server=short))
        assert "the model gives 10 values, of which simulate.server.outputs names 9" in found.what
    with pytest.raises(ConfigError, match="name what the model's vectors hold"):
        problem("http://127.0.0.1:9/line", server=None)
