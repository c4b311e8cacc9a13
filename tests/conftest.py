"""What every test starts from: JAX in 64 bits, and no silent change of a number's type."""

from __future__ import annotations

import os

from pipeline import runtime

# In the environment, so that the processes which tests start are held to it too.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["MPLBACKEND"] = "agg"
runtime.prepare()
