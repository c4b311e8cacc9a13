"""A bucket as a second level behind the local store: blobs by their content, and last the manifest, by who is first.

An artifact is there once its manifest is, which is put by a conditional write that only the first of several wins. A
write-id in it tells a retry that met its own success from somebody else's. Nothing is listed, locked or renamed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from simfer.pipeline import manifest as manifests
from simfer.pipeline.manifest import Manifest, Unreadable
from simfer.stages.errors import SimferError

SCHEMES = "s3://", "gs://", "az://"
_TRIES = 4  # where a store answers that two writers met (409)
_WAIT = 0.5  # seconds after the first of them
_BLOCK = 2**23

Got = TypeVar("Got")


def is_remote(place: object) -> bool:
    """Say whether a store is named that is a bucket, and no folder."""
    return str(place).startswith(SCHEMES)


class Remote:
    """A place for artifacts in a bucket."""

    def __init__(self, url: str, objects: Any = None) -> None:
        if find_spec("obstore") is None:
            raise SimferError(f'{url} needs obstore, which is not installed: pip install "simfer[cloud]"')
        self.url, self._objects, self._is_probed = url, objects, False

    @property
    def objects(self) -> Any:
        """The bucket, opened with the credentials of the environment, as the cloud's own tools have them."""
        if self._objects is None:
            from obstore.store import from_url

            client: dict[str, Any] = {"timeout": "120s", "connect_timeout": "10s"}
            if os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"):  # which client_options make forgotten
                client["allow_http"] = True
            opened: Any = from_url
            self._objects = self._in_words(lambda: opened(self.url, client_options=client))
        return self._objects

    def push(self, stage: str, folder: Path, manifest: Manifest) -> bool:
        """Send an artifact, as far as it is not there; return whether this one is there now, and not another's."""
        place = f"{stage}/{manifest['fingerprint']}"
        there: dict[str, Any] | None = self._manifest(place)
        if there is None:
            self._probe()
            for name, record in manifest["files"].items():
                self._put_blob(f"{place}/blobs/{record['sha256']}", folder / name)
            own: dict[str, Any] = {"write_id": uuid4().hex, "manifest": manifest}
            body = json.dumps(own).encode()
            there = own if self._created(f"{place}/manifest.json", body) else self._manifest(place)
            if there is None:
                raise SimferError(f"{self.url}: {place} was neither written nor found; run again")
        return bool(there["manifest"]["digest"] == manifest["digest"])

    def pull(self, stage: str, fingerprint: str, folder: Path) -> bool:
        """Fetch an artifact into a folder that is not there yet; return whether the bucket has one.

        What a manifest names stays in the folder, and every file is held to its digest.
        """
        there = self._manifest(f"{stage}/{fingerprint}")
        if there is None:
            return False
        folder.mkdir(parents=True)
        (folder / manifests.NAME).write_text(json.dumps(there["manifest"], indent=1), encoding="utf-8")
        try:
            manifest = manifests.read(folder, fingerprint)
        except Unreadable as error:
            raise SimferError(
                f"{self.url}: the manifest of {stage}/{fingerprint} is {error}; nothing was taken"
            ) from None
        for name, record in manifest["files"].items():
            self._fetch(f"{stage}/{fingerprint}/blobs/{record['sha256']}", folder / name, record)
        return True

    def _fetch(self, key: str, file: Path, record: Mapping[str, Any]) -> None:
        import obstore

        file.parent.mkdir(parents=True, exist_ok=True)
        seen = 0
        with file.open("xb") as out:
            for block in self._in_words(lambda: obstore.get(self.objects, key).stream(min_chunk_size=_BLOCK)):
                seen += len(block)
                if seen > record["bytes"]:
                    break
                out.write(block)
        if seen != record["bytes"] or manifests.file_digest(file) != record["sha256"]:
            raise SimferError(f"{self.url}: {key} is not what its manifest says; nothing was taken")
        os.utime(file, ns=(record["mtime_ns"], record["mtime_ns"]))

    def _manifest(self, place: str) -> dict[str, Any] | None:
        import obstore

        try:
            body = self._in_words(lambda: bytes(obstore.get(self.objects, f"{place}/manifest.json").bytes()))
            read = json.loads(body)
            assert isinstance(read["manifest"], dict) and isinstance(read["manifest"].get("digest"), str)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AssertionError):
            raise SimferError(f"{self.url}: {place}/manifest.json is none of Simfer's") from None
        return dict(read)

    def _put_blob(self, key: str, file: Path) -> None:
        import obstore

        try:
            if self._in_words(lambda: obstore.head(self.objects, key))["size"] == file.stat().st_size:
                return
        except FileNotFoundError:
            pass
        self._in_words(lambda: obstore.put(self.objects, key, file))

    def _created(self, key: str, body: bytes) -> bool:
        """Write an object unless there is one; a retry that meets its own first success is one too."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._in_words(lambda: obstore.put(self.objects, key, body, mode="create", use_multipart=False))
        except (AlreadyExistsError, PreconditionError):
            return self._in_words(lambda: bytes(obstore.get(self.objects, key).bytes())) == body
        return True

    def _probe(self) -> None:
        """Refuse a bucket that takes a second write for the first: two that build at once would mix their files."""
        import obstore

        if self._is_probed:
            return
        key = f".simfer-probe-{uuid4().hex}"
        try:
            refuses = self._created(key, b"first") and not self._created(key, b"second")
        finally:
            self._in_words(lambda: obstore.delete(self.objects, key))
        if not refuses:
            raise SimferError(
                f"{self.url} ignores If-None-Match: it overwrites what was to be created only if there is nothing. "
                "Two who build the same at once would spoil it. Take another store, or a folder"
            )
        self._is_probed = True

    def _in_words(self, call: Callable[[], Got]) -> Got:
        """Say in words what went wrong at the other end, after another try where two writers met."""
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        for attempt in range(_TRIES):
            try:
                return call()
            except (AlreadyExistsError, PreconditionError):
                raise
            except BaseError as error:
                said = " ".join(str(error).split("Debug source")[0].split())
                if "409" not in said or attempt == _TRIES - 1:
                    what = "what was built is kept on this machine; run again to send it"
                    raise SimferError(f"{self.url}: {said[:300]} ({what})") from None
                time.sleep(_WAIT * 2**attempt)
        raise AssertionError
