"""A program whose run is watched: what it prints is shown as it comes, and its folder stays."""

from __future__ import annotations

import subprocess
import sys
from codecs import getincrementaldecoder
from pathlib import Path
from threading import Thread
from typing import IO

from simfer.stages.simulate.children.programs import ERR, OUT, Program


class Watched(Program):
    """The program of a config, in the foreground."""

    def _call(self, words: list[str], place: Path) -> int:
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, cwd=place, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, bufsize=0)
        assert process.stdout and process.stderr
        threads = [Thread(target=_show, args=(process.stdout, place / OUT)),
                   Thread(target=_show, args=(process.stderr, place / ERR))]  # fmt: skip
        for thread in threads:
            thread.start()
        try:
            return process.wait()
        finally:
            process.kill()  # where the wait was interrupted
            process.wait()
            for thread in threads:
                thread.join()

    def _show(self, place: Path) -> None:
        """Show nothing again."""


def _show(pipe: IO[bytes], file: Path) -> None:
    """Copy a stream to the screen and into the file that it is read from."""
    decoder = getincrementaldecoder("utf-8")("replace")  # a piece may end within a letter
    with pipe, file.open("wb") as copy:
        while data := pipe.read(1 << 16):
            copy.write(data)
            sys.stdout.write(decoder.decode(data))
            sys.stdout.flush()
