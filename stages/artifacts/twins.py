"""Rows of equal parameters, found without holding all of them beside one another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def digests(z: Float[np.ndarray, "rows size"]) -> np.ndarray:
    """Return 64 bits of each row; equal rows have equal ones."""
    bits = np.ascontiguousarray(z + 0.0).view(np.uint64)  # -0 is 0
    out = np.full(len(z), 0x9E3779B97F4A7C15, np.uint64)
    for column in bits.T:  # as FNV does, with a shift so that high bits reach low ones
        out = (out ^ column) * np.uint64(0x100000001B3)
        out ^= out >> np.uint64(29)
        out *= np.uint64(0xBF58476D1CE4E5B9)
    return out


def twins(z: Float[np.ndarray, "rows size"]) -> Int[np.ndarray, " rows"]:
    """Return the number of the first row that each row is equal to: its own, where none before it is."""
    return first_of(digests(z))


def first_of(digests: np.ndarray) -> Int[np.ndarray, " rows"]:
    """Return where the digest of each row is there first."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return first[inverse]
