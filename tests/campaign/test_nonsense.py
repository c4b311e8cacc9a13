"""Nonsense is taken or refused in words: configs, --set, data, points, manifests, headers; never a traceback."""

from __future__ import annotations

import json
import random
import tomllib
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from simfer.pipeline import chain, config, manifest, runtime, shape
from simfer.pipeline.cli import app
from simfer.pipeline.store import Store
from simfer.stages.emulator.points import Points
from simfer.stages.emulator.saved import HEADER, LEAVES, _header_digest, load_emulator
from simfer.stages.model import observation
from simfer.stages.model.outputs import Layout, Output
from simfer.stages.model.space import Space
from simfer.stages.settings import Observation
from tests import fakes, helpers
from tests.campaign import mutations
from tests.campaign.counts import Count, contents

KEPT = helpers.ROOT / "tests" / "emulator" / "kept" / "format4"
FINGERPRINT = "0123456789abcdef"
Cases = Callable[[int, int], int]


def test_configs(cases: Cases) -> None:
    count, rng = Count("configs"), random.Random(1)
    with helpers.SMOKE.open("rb") as file:
        right = tomllib.load(file)
    for _ in range(cases(300, 10_000)):
        table = mutations.table(right, rng)
        with count.case(str(table)):
            helpers.plan(config.from_table(table, folder=helpers.SMOKE.parent))
    count.report()


def test_settings(cases: Cases) -> None:
    count, rng = Count("--set"), random.Random(2)
    with helpers.SMOKE.open("rb") as file:
        right = tomllib.load(file)
    keys = [".".join(way) for way in mutations.places(right) if all(isinstance(key, str) for key in way)]
    for _ in range(cases(300, 10_000)):
        word = rng.choice([str(rng.choice(mutations.ODD)), json.dumps(rng.choice(mutations.ODD)), rng.choice(keys)])
        setting = rng.choice([f"{rng.choice(keys)}={word}", f"{rng.choice(keys)}.{word}", word, f"{word}=1"])[:5000]
        with count.case(setting):
            helpers.plan(config.from_table(right, [setting], folder=helpers.SMOKE.parent))
    count.report()


def test_config_files(tmp_path: Path, cases: Cases) -> None:
    count, rng = Count("config files"), random.Random(3)
    right, file = helpers.SMOKE.read_text().replace("../data", f"{helpers.ROOT}/data"), tmp_path / "a.toml"
    for _ in range(cases(100, 10_000)):
        file.write_bytes(mutations.text(right, rng))
        with count.case(str(file.read_bytes()[:200])):
            config.load(file)
    count.report()


def test_data(tmp_path: Path, cases: Cases) -> None:
    count, rng = Count("data files"), random.Random(4)
    times = np.arange(12.0)
    layout = Layout({name: Output(("time",), {"time": times}) for name in ("prey", "predator")})
    right = "time,prey,predator\n" + "".join(f"{time:g},{time * 2 + 0.5},{time / 7}\n" for time in times)
    file = tmp_path / "data.csv"
    for _ in range(cases(300, 10_000)):
        file.write_bytes(mutations.text(right, rng))
        with count.case(str(file.read_bytes()[:300])):
            data = observation.read(Observation(file=str(file)), layout)
            assert np.isfinite(data.values).all() and len(data.index(layout))
    count.report()


def test_points(tmp_path: Path, cases: Cases) -> None:
    count, rng = Count("points files"), random.Random(5)
    space = Space(helpers.problem(helpers.line()).parameters)
    right, file = "intercept,slope\n" + "".join(f"{i},{-i / 3}\n" for i in range(9)), tmp_path / "points.csv"
    for _ in range(cases(300, 10_000)):
        file.write_bytes(mutations.text(right, rng))
        with count.case(str(file.read_bytes()[:300])):
            for block in Points(file, space).blocks(4):
                assert block.shape[1] == 2
    count.report()


def test_manifests(tmp_path: Path, cases: Cases) -> None:
    count, rng = Count("manifests"), random.Random(6)
    store, outside = Store(tmp_path / "store"), tmp_path / "outside"
    outside.mkdir()
    (outside / "victim.txt").write_text("hello")
    with store.workplace("train", FINGERPRINT, lambda: None) as work:
        (work.open(keep=False) / "a.txt").write_text("hello")
        work.publish(fakes.entries(FINGERPRINT))
    folder = work.final
    right = json.loads((folder / manifest.NAME).read_text())
    del right["digest"]
    right["files"]["../../../outside/victim.txt"] = dict(right["files"]["a.txt"])
    right["summary"] |= {"tables": {"t": [{"a": 1, "b": "x"}]}, "warnings": ["w"], "pictures": ["p.png"]}
    before = contents(outside)
    for number in range(cases(500, 10_000)):
        content: dict[str, Any] = mutations.table(right, rng)
        if number % 2 and isinstance(content.get("files"), dict):
            content["files"].pop("../../../outside/victim.txt", None)  # which is refused, however the rest is
        try:
            text = json.dumps(content | {"digest": manifest.digest(content)})
        except ValueError:  # of a number that JSON has not
            text = json.dumps(content)
        (folder / manifest.NAME).write_text(text)
        with count.case(text[:300]):
            found = store.find("train", FINGERPRINT, thorough=True)
            if found.manifest is not None:
                assert not shape.wrong(found.manifest)
            with store.workplace("train", FINGERPRINT, lambda: None) as work:
                work.adopt()
                work.reopen(found.damage) if not found.sound else None
            folder.mkdir(exist_ok=True)
    if contents(outside) != before:
        count.wrong("outside", "a file beside the store")
    count.report()


def test_manifests_that_commands_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: Cases) -> None:
    """What status, show and load make of a store of which one manifest was written by someone else."""
    count, rng = Count("status and show of those"), random.Random(8)
    monkeypatch.setattr(chain, "run", fakes.run_stage)
    monkeypatch.setattr(chain, "mistakes", lambda problem, **_: [])
    monkeypatch.setattr(runtime, "prepare", lambda: None)
    file = fakes.write_project(tmp_path)
    CliRunner().invoke(app, ["run", str(file)])
    rights = {path: path.read_text() for path in sorted((tmp_path / "data").rglob(manifest.NAME))}
    assert len(rights) == 5
    for number in range(cases(15, 2_000)):
        path = list(rights)[number % 5]
        content = mutations.table({k: v for k, v in json.loads(rights[path]).items() if k != "digest"}, rng)
        with suppress(ValueError):  # of a number that JSON has not
            path.write_text(json.dumps(content | {"digest": manifest.digest(content)}))
        for command in (["status", "--why"], ["show"]):
            with count.case(f"{command[0]} of {path.parent.parent.name} {str(content)[:300]}"):
                ended = CliRunner().invoke(app, [command[0], str(file), *command[1:]])
                if ended.exception and not isinstance(ended.exception, SystemExit):
                    raise ended.exception
        path.write_text(rights[path])
    count.report()


def test_headers(tmp_path: Path, cases: Cases) -> None:
    count, rng = Count("emulators' headers"), random.Random(7)
    kept = sorted(path.parent for path in KEPT.glob(f"*/{HEADER}"))
    for number in range(cases(40, 2_000)):
        source = kept[number % len(kept)]
        header = json.loads((source / HEADER).read_text())
        digests = header.pop("digests")
        changed = mutations.table(header, rng)
        changed["digests"] = digests | {HEADER: _header_digest(changed)}
        (tmp_path / HEADER).write_text(json.dumps(changed))
        (tmp_path / LEAVES).write_bytes((source / LEAVES).read_bytes())
        with count.case(str(changed)[:400]), warnings.catch_warnings(action="ignore"):
            load_emulator(tmp_path)
    count.report()


@pytest.mark.parametrize("text", ["[" * 200_000, '{"format":' * 200_000, "1" * 5000, "null", "\xff"])
def test_headers_that_no_parser_likes(tmp_path: Path, text: str) -> None:
    count = Count("headers without a parser")
    (tmp_path / HEADER).write_text(text, encoding="latin-1")
    with count.case(text[:20]):
        load_emulator(tmp_path)
    assert count.ends["refused"] == 1
    count.report()
