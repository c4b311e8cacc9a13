"""What goes through a pipe between a driver and its child: a table in JSON, and numbers as they are in memory."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

_HEAD = struct.Struct("<III")  # bytes of the table, bytes of the numbers, checksum of both


class Frame(NamedTuple):
    """One message."""

    table: dict[str, Any]
    numbers: Float[np.ndarray, " n"]


def encode(table: dict[str, Any], numbers: Float[np.ndarray, " n"] | None = None) -> bytes:
    """Write a message."""
    text = json.dumps(table, separators=(",", ":")).encode()
    values = b"" if numbers is None else np.ascontiguousarray(numbers, "<f8").tobytes()
    return _HEAD.pack(len(text), len(values), zlib.crc32(values, zlib.crc32(text))) + text + values


class Reader:
    """Cuts what comes through a pipe, or lies in a file, into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.num_read = 0  # bytes of whole messages

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        self._buffer += data

    def frames(self) -> Iterator[Frame]:
        """Yield the messages that are whole; one that is damaged ends them, as what a kill left half written."""
        at = 0
        try:
            while len(self._buffer) - at >= _HEAD.size:
                text, values, check = _HEAD.unpack_from(self._buffer, at)
                end = at + _HEAD.size + text + values
                if len(self._buffer) < end:
                    return
                body = bytes(self._buffer[at + _HEAD.size : end])
                if zlib.crc32(body) != check:
                    at = len(self._buffer)
                    return
                self.num_read += end - at
                at = end
                yield Frame(json.loads(body[:text].decode()), np.frombuffer(body[text:], "<f8"))
        finally:
            del self._buffer[:at]  # once: an answer may be thousands of them


def write_all(file: int, data: bytes) -> None:
    """Write to a pipe until all is through."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
