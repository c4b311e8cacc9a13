"""A p that says how large an error is, whatever the number of draws that were simulated to see it."""

from __future__ import annotations

import math

from scipy.special import ndtr, ndtri

DRAWS = 256  # which find that the sds of three parameters are 8 to 9 % too small, in half of all cases


def effect_p(p: float, count: int) -> float:
    """Return the p that `DRAWS` draws would give of an error that gives `p` with `count` of them.

    No emulator is exact, and enough draws find any error: by the p alone the same posterior would pass a small check
    and fail a large one. What a test sees grows with the root of the number of draws, so a larger check is brought back
    to the size of this one: it measures the same error better, and is asked for no more. A smaller check sees less;
    nothing is made of that.

    Args:
        p: Of the test, one-sided as a normal deviate.
        count: The draws that it was made with.
    """
    return float(ndtr(ndtri(p) * min(1.0, math.sqrt(DRAWS / max(count, 1)))))
