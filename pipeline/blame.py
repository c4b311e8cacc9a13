"""Tell an exception of the user's own code from a bug of ours, and show no more than the user's part of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from simfer.pipeline.chain import SimferError, UserCodeError


@contextmanager
def blame(where: str, user_files: Callable[[], Collection[Path]]) -> Iterator[None]:
    """Turn an exception that passed through one of the user's files into a `UserCodeError`; let others be."""
    try:
        yield
    except SimferError:
        raise
    except (Exception, SystemExit) as error:  # who calls sys.exit() would end the command as if it had done its work
        frames = _frames(error, user_files())
        if frames:
            raise UserCodeError(_text(where, error, frames)) from error
        raise


def _frames(error: BaseException, files: Collection[Path]) -> list[traceback.FrameSummary]:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() in files]
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).resolve() in files:
        frames.append(traceback.FrameSummary(error.filename, error.lineno, "<module>"))
    return frames


def _text(where: str, error: BaseException, frames: list[traceback.FrameSummary]) -> str:
    notes = [note for note in getattr(error, "__notes__", []) if "JAX_TRACEBACK_FILTERING" not in note]
    lines = "".join(traceback.format_list(frames))
    said = "\n".join([f"{type(error).__name__}: {error}", *notes])
    return f"{where}: your code raised {type(error).__name__}\n{lines}{said}"
