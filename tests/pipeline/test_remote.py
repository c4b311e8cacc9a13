"""A bucket behind the store: what one machine built another has, by whoever was first, and nothing half."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simfer.pipeline.cli import app
from simfer.pipeline.manifest import Manifest
from simfer.pipeline.remote import Remote
from simfer.pipeline.store import Store
from simfer.stages.errors import SimferError

obstore = pytest.importorskip("obstore")
KEY = {"stage": "simulate", "version": 1, "config": {}, "inputs": {}}
PRINT = "0123456789abcdef"


def built(root: Path, remote: Remote, text: str = "rows") -> tuple[Store, Manifest]:
    """Build and share an artifact as the builder does."""
    store = Store(root, remote)
    entries = {
        "stage": "simulate",
        "round": 0,
        "fingerprint": PRINT,
        "key": KEY,
        "summary": {"facts": {"rows": 1}},
        "versions": {},
        "device": "cpu",
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
    }
    with store.workplace("simulate", PRINT, lambda: None) as work:
        folder = work.open(keep=False)
        (folder / "a").mkdir()
        (folder / "a" / "rows.txt").write_text(text)
        manifest = work.publish(entries)
    return store, store.share("simulate", store.folder("simulate", PRINT), manifest)


def memory() -> Any:
    return obstore.store.MemoryStore()


def keys(objects: Any) -> list[str]:
    return sorted(each["path"] for batch in obstore.list(objects) for each in batch)


def test_what_one_machine_built_another_finds(tmp_path: Path) -> None:
    objects = memory()
    built(tmp_path / "here", Remote("s3://b", objects))
    there = Store(tmp_path / "there", Remote("s3://b", objects))
    found = there.find("simulate", PRINT, thorough=True)
    assert found.sound and (found.folder / "a" / "rows.txt").read_text() == "rows"
    assert not any("probe" in key for key in keys(objects)) and len(keys(objects)) == 2
    assert not Store(tmp_path / "else", Remote("s3://b", objects)).find("simulate", "f" * 16).sound


def test_of_two_the_first_wins_and_both_have_what_it_built(tmp_path: Path) -> None:
    objects = memory()
    _, first = built(tmp_path / "here", Remote("s3://b", objects), "first")
    store, taken = built(tmp_path / "there", Remote("s3://b", objects), "second")
    assert taken["digest"] == first["digest"]
    assert (store.folder("simulate", PRINT) / "a" / "rows.txt").read_text() == "first"


def test_a_retry_that_meets_its_own_success_is_one(tmp_path: Path) -> None:
    remote = Remote("s3://b", memory())
    assert remote._created("x/manifest.json", b"body") and remote._created("x/manifest.json", b"body")
    assert not remote._created("x/manifest.json", b"another")


def test_without_its_manifest_nothing_is_there(tmp_path: Path) -> None:
    objects = memory()
    built(tmp_path / "here", Remote("s3://b", objects))
    manifest = next(key for key in keys(objects) if key.endswith("manifest.json"))
    body = bytes(obstore.get(objects, manifest).bytes())
    obstore.delete(objects, manifest)
    assert not Store(tmp_path / "there", Remote("s3://b", objects)).find("simulate", PRINT).sound
    obstore.put(objects, manifest, body)
    blob = next(key for key in keys(objects) if "/blobs/" in key)
    obstore.put(objects, blob, b"row!")
    with pytest.raises(SimferError, match="is not what its manifest says"):
        Store(tmp_path / "more", Remote("s3://b", objects)).find("simulate", PRINT)
    assert list((tmp_path / "more" / "simulate").iterdir()) == []


def test_no_name_in_a_manifest_leaves_the_folder(tmp_path: Path) -> None:
    from simfer.pipeline.manifest import digest

    objects = memory()
    built(tmp_path / "here", Remote("s3://b", objects))
    place = next(key for key in keys(objects) if key.endswith("manifest.json"))
    content = json.loads(bytes(obstore.get(objects, place).bytes()))
    manifest = {key: value for key, value in content["manifest"].items() if key != "digest"}
    manifest["files"] = {"../../../outside.txt": next(iter(manifest["files"].values()))}
    obstore.put(
        objects, place, json.dumps({"write_id": "", "manifest": manifest | {"digest": digest(manifest)}}).encode()
    )
    with pytest.raises(SimferError, match="manifest of simulate"):
        Store(tmp_path / "there", Remote("s3://b", objects)).find("simulate", PRINT)
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_bucket_that_ignores_conditions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, objects = obstore.put, memory()
    monkeypatch.setattr(obstore, "put", lambda *args, mode=None, **more: put(*args, **more))
    with pytest.raises(SimferError, match="ignores If-None-Match"):
        built(tmp_path / "here", Remote("s3://b", objects))
    assert keys(objects) == []


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the S3 protocol on this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/ours", method="PUT")).close()
    yield "s3://ours/emulators"
    server.stop()


def test_a_run_is_found_through_the_s3_protocol(bucket: str, tmp_path: Path) -> None:
    text = (
        '[parameters]\nintercept = 1.0\nslope = { dist = "Normal", loc = -1.0, scale = 0.5 }\n[simulate]\n'
        'simulator = "linear"\nnum_simulations = 24\noptions = { x = [0.0, 1.0] }\n[observation]\nfile = "line.csv"\n'
        '[noise.y]\ndist = "Normal"\nscale = 0.5\n'
    )
    said = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "line.toml").write_text(text)
        (tmp_path / name / "line.csv").write_text("x,y\n0,1.0\n1,0.1\n")
        answer = CliRunner().invoke(app, ["simulate", str(tmp_path / name / "line.toml"), "--store", bucket])
        assert answer.exit_code == 0, answer.output
        said.append(answer.output)
    assert "simulate-0: building" in said[0] and "simulate-0: cached" in said[1]
    chunks = [sorted((tmp_path / name).rglob("simulations.zarr/y/c/0/0")) for name in ("here", "there")]
    assert chunks[0] and chunks[0][0].read_bytes() == chunks[1][0].read_bytes()


def test_a_store_that_is_gone_is_said_and_what_was_built_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    from obstore.store import S3Store

    objects = S3Store("gone", retry_config={"max_retries": 0}, client_options={"connect_timeout": "1s"})
    with pytest.raises(SimferError, match="run again to send it"):
        Store(tmp_path, Remote("s3://gone", objects)).find("simulate", PRINT)
