"""`simfer serve`: the emulator behind UM-Bridge, asked over loopback by Simfer's own client and by hand."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import jax
import numpy as np
import pytest

from simfer.stages.artifacts.arrays import DERIVATIVES
from simfer.stages.emulator.emulator import Emulator
from simfer.stages.emulator.saved import load_emulator
from simfer.stages.emulator.serve import build_server
from simfer.stages.errors import SimferError
from simfer.stages.model.outputs import Status
from simfer.stages.model.space import Space
from simfer.stages.progress import Silent
from simfer.stages.simulate.rows import fill
from tests import helpers

POINT = {"intercept": 0.6, "slope": -0.9}
FORWARD: dict[str, Any] = {"name": "forward", "input": [list(POINT.values())], "config": {}}
FAR = {"input": [[40.0, -1.0]]}


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    """Return the line's emulator."""
    return load_emulator(helpers.line_run(until="train").folders["train"], outside="ignore")


@pytest.fixture(scope="module")
def port(emulator: Emulator) -> Iterator[int]:
    """Serve the emulator."""
    with build_server(emulator) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(port: int, path: str, body: Any = None) -> tuple[int, Any]:
    """Ask once; without a body by GET."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    content = body if isinstance(body, str) else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, None if body is None else content)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    return answer.status, said


def test_simfers_own_client_has_the_emulators_numbers_and_slopes(emulator: Emulator, port: int, tmp_path: Path) -> None:
    names = {"inputs": [["intercept", "slope"]], "outputs": {"y": {"coords": {"x": helpers.X.tolist()}}}}
    settings = {"simulator": f"http://127.0.0.1:{port}/forward", "server": names, "options": None, "workers": 1}
    checked = helpers.problem(helpers.line(simulate=settings | {"num_simulations": 6, "derivatives": True}))
    z = np.random.default_rng(0).uniform(-1.0, 1.0, (6, 2))
    z[5] = 30.0  # far outside of the training domain
    rows = fill(tmp_path, checked.simulate, Space(checked.parameters), 6, lambda a, b: z[a:b], Silent()).simulations
    found = rows.to_xarray()
    assert found["status"].values.tolist() == [Status.OK] * 5 + [Status.OTHER]
    assert "InvalidInput" in (tmp_path / "failures.csv").read_text()
    for i in range(5):
        point = {name: float(found[name][i]) for name in POINT}
        slopes = jax.jacfwd(emulator)(point)["y"]
        assert np.allclose(found["y"][i], emulator(point)["y"], rtol=1e-12)
        for j, name in enumerate(POINT):
            assert np.allclose(found["y" + DERIVATIVES][i, j], slopes[name], rtol=1e-9)


def test_the_whole_protocol_is_answered(emulator: Emulator, port: int) -> None:
    assert ask(port, "/Info") == (200, {"protocolVersion": 1.0, "models": ["forward", "error"]})
    support = {"Evaluate": True, "Gradient": True, "ApplyJacobian": True, "ApplyHessian": False}
    assert ask(port, "/ModelInfo", {"name": "error"}) == (200, {"support": support})
    assert ask(port, "/InputSizes", FORWARD) == (200, {"inputSizes": [2]})
    assert ask(port, "/OutputSizes", FORWARD) == (200, {"outputSizes": [9]})
    error = ask(port, "/Evaluate", FORWARD | {"name": "error"})[1]["output"]
    assert np.allclose(error, [emulator.error(POINT)["y"]], rtol=1e-12)
    sens = np.linspace(-1.0, 2.0, 9)
    gradient = ask(port, "/Gradient", FORWARD | {"outWrt": 0, "inWrt": 0, "sens": sens.tolist()})[1]["output"]
    slopes = jax.jacfwd(emulator)(POINT)["y"]
    assert np.allclose(gradient, [sens @ slopes[name] for name in POINT], rtol=1e-9)
    beyond = ask(port, "/Evaluate", FORWARD | FAR | {"config": {"outside": "ignore"}})[1]["output"]
    assert np.allclose(beyond, [emulator({"intercept": 40.0, "slope": -1.0})["y"]], rtol=1e-12)


def test_the_protocols_own_client_has_the_emulators_numbers_and_slopes(emulator: Emulator, port: int) -> None:
    umbridge = pytest.importorskip("umbridge")
    model = umbridge.HTTPModel(f"http://127.0.0.1:{port}", "forward")
    assert (model.get_input_sizes(), model.get_output_sizes()) == ([2], [9])
    assert model.supports_evaluate() and model.supports_gradient() and model.supports_apply_jacobian()
    point = [list(POINT.values())]
    assert np.allclose(model(point), [emulator(POINT)["y"]], rtol=1e-12)
    slopes = jax.jacfwd(emulator)(POINT)["y"]
    along = model.apply_jacobian(0, 0, point, [1.0, -2.0])
    assert np.allclose(along, slopes["intercept"] - 2.0 * slopes["slope"], rtol=1e-9)
    back = model.gradient(0, 0, point, [1.0] * 9)
    assert np.allclose(back, [slopes[name].sum() for name in POINT], rtol=1e-9)
    with pytest.raises(Exception, match="lies outside of the domain"):  # the package has no kind of its own
        model(FAR["input"])


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "said"),
    [
        ("/Evaluate", FORWARD | {"name": "posterior"}, 400, "ModelNotFound", "expected one of forward, error"),
        ("/Evaluate", FORWARD | FAR, 400, "InvalidInput", "lies outside of the domain"),
        ("/Evaluate", FORWARD | {"input": [[1.0]]}, 400, "InvalidInput", "expected 2 numbers"),
        ("/Evaluate", FORWARD | {"input": [[1.0, "2"]]}, 400, "InvalidInput", "expected 2 numbers"),
        ("/Evaluate", FORWARD | {"input": [[1.0, np.nan]]}, 400, "InvalidInput", "expected finite numbers"),
        ("/Evaluate", FORWARD | {"input": [[1.0, 10**400]]}, 400, "InvalidInput", "expected finite numbers"),
        ("/Evaluate", FORWARD | {"input": [1.0, 2.0]}, 400, "InvalidInput", "expected a list of one vector"),
        ("/Evaluate", FORWARD | {"config": {"level": 2}}, 400, "InvalidInput", "config: got {'level': 2}"),
        ("/Evaluate", FORWARD | {"config": {"outside": []}}, 400, "InvalidInput", "config: got"),
        ("/Gradient", FORWARD | {"outWrt": 1, "inWrt": 0}, 400, "InvalidInput", "outWrt: got 1, expected 0 to 0"),
        ("/ApplyJacobian", FORWARD | {"outWrt": 0, "inWrt": 1}, 400, "InvalidInput", "inWrt: got 1"),
        ("/ApplyJacobian", FORWARD | {"outWrt": 0, "inWrt": 0}, 400, "InvalidInput", "vec: got None"),
        ("/ApplyHessian", FORWARD, 400, "UnsupportedFeature", "there is no /ApplyHessian"),
        ("/Evaluated", FORWARD, 404, "UnsupportedFeature", "there is no /Evaluated"),
        ("/Evaluate", "{", 400, "InvalidInput", "the request is no JSON"),
        ("/Evaluate", [], 400, "InvalidInput", "expected a JSON object"),
    ],
)
def test_what_cannot_be_answered_is_an_error_of_the_protocols(
    port: int, path: str, body: Any, status: int, kind: str, said: str
) -> None:
    code, answer = ask(port, path, body)
    assert (code, answer["error"]["type"]) == (status, kind) and said in answer["error"]["message"]


def test_a_port_that_is_taken_is_said(emulator: Emulator, port: int) -> None:
    with pytest.raises(SimferError, match=f"--port {port} cannot be had .*Address already in use"):
        build_server(emulator, port)


def test_the_command_serves_until_ctrl_c(config: Path) -> None:
    words = ["serve", str(config), "--port", "0", "--store", str(helpers.scratch() / "line")]
    # What a shell has started in the background ignores Ctrl-C, and so would whatever it starts.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{heed}; from simfer.pipeline.cli import main; main()"
    command = [sys.executable, "-c", start, *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=helpers.ROOT,
                          env=os.environ | {"PYTHONPATH": str(helpers.ROOT)}) as process:  # fmt: skip
        assert process.stderr
        try:
            address = next(found for line in process.stderr if (found := re.search(r"http://127.0.0.1:(\d+)", line)))
            assert ask(int(address[1]), "/Info")[1]["models"][0] == "forward"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
