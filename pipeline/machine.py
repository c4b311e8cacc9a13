"""What the machine would not do, in words: a full disk, a folder that cannot be written to, memory that ran out."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from simfer.pipeline.chain import SimferError

_KEPT = "Nothing that was finished is lost: the same command goes on from there"
_SAYS = {
    errno.ENOSPC: f"the disk is full. Make room, or name another --store. {_KEPT}.",
    errno.EDQUOT: f"your share of the disk is used up. Make room, or name another --store. {_KEPT}.",
    errno.EACCES: "you may not write or read here. Name a --store that is yours.",
    errno.EPERM: "you may not write or read here. Name a --store that is yours.",
    errno.EROFS: "it can only be read. Name a --store elsewhere.",
    errno.ENOTDIR: "it is a file, or lies below one; a folder was expected.",
    errno.EISDIR: "it is a folder; a file was expected.",
    errno.ENAMETOOLONG: "its name is longer than the file system allows.",
    errno.ELOOP: "it is a link that leads to itself, or one where none may be.",
    errno.EFBIG: "it would be larger than the file system allows.",
    errno.EMFILE: "too many files are open at once; `ulimit -n 4096` allows more.",
    errno.ENFILE: "too many files are open at once on this machine.",
    errno.EIO: "the disk does not answer as it should; look after it before you go on.",
    errno.ESTALE: f"the file system was away for a while. {_KEPT}.",
    errno.EAGAIN: f"the machine has no process or thread left to give. {_KEPT}.",
}
_MEMORY = (
    "memory ran out. What helps, by what took it: fewer save times or outputs, a smaller simulate.batch_size or "
    f"train.batch_size, a smaller train.width or ensemble_size, fewer infer.num_samples. {_KEPT}."
)
_JAX = "JaxRuntimeError", "XlaRuntimeError"  # by name: to import JAX takes seconds


@contextmanager
def in_words() -> Iterator[None]:
    """Turn what the system refused into a `SimferError` that names the place; let other errors be."""
    try:
        yield
    except SimferError:
        raise
    except (OSError, MemoryError, RuntimeError) as error:
        if said := _said(error):
            raise SimferError(said) from error
        raise


def _said(error: BaseException) -> str:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or _is_of_jax(error):
        return f"{_MEMORY} ({str(error).partition(chr(10))[0][:200]})"
    if isinstance(error, OSError) and error.errno in _SAYS:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{_SAYS[error.errno]} ({error.strerror})"
    return ""


def _is_of_jax(error: BaseException) -> bool:
    return type(error).__name__ in _JAX and "RESOURCE_EXHAUSTED" in str(error)
