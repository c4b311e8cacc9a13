"""Simulators in plain Python, sound ones and others: each is called as `file.py:name`, in a process of its own."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

import numpy as np
import xarray as xr

X = np.linspace(0.0, 4.0, 9)
LOADED = os.getpid()  # imports happen once in each process


def line(intercept, slope):
    return {"x": X, "y": ("x", intercept + slope * X)}


def dataset(intercept, slope):
    y = xr.DataArray(intercept + slope * X, {"x": ("x", X, {"units": "m"})}, ["x"], attrs={"units": "V"})
    return xr.Dataset({"y": y})


def line_at(intercept, slope, x):
    return {"x": np.asarray(x, float), "y": ("x", intercept + slope * np.asarray(x))}


def random_at(intercept, slope, x, seed):
    return line_at(intercept, slope, x)


class LineAt:
    def __init__(self, x):
        self.x = np.asarray(x, float)

    def outputs(self):
        return {"y": (["x"], {"x": self.x}, "V")}

    def __call__(self, parameters):
        if parameters["slope"] < -1.5:
            raise ValueError("too steep")
        return {"y": parameters["intercept"] + parameters["slope"] * self.x}


def bare(intercept, slope):
    return {"y": intercept + slope * X}


class Line:
    parameters = {"intercept": "V", "slope": "V/m"}  # noqa: RUF012

    def __init__(self, offset=0.0):
        self.offset = offset

    def outputs(self):
        return {"y": (["x"], {"x": X}, "V")}

    def __call__(self, parameters):
        return {"y": parameters["intercept"] + parameters["slope"] * X + self.offset}


def unsound(intercept, slope):
    """Go wrong in a way of its own where the slope is far from the prior's median."""
    if slope > 0.3:
        print("about to fail", file=sys.stderr, flush=True)
        raise ValueError(f"no slope of {slope}")
    if slope > -0.2:
        print("a null pointer", flush=True)
        ctypes.string_at(0)
    if slope < -2.0:
        return {"x": X, "y": ("x", np.full(9, np.nan))}
    if slope < -1.7:
        return {"x": X[:8], "y": ("x", X[:8])}
    if slope < -1.5:
        return None
    return line(intercept, slope)


def hangs(intercept, slope):
    if slope > -1.0 + 1e-9:
        time.sleep(600)
    return line(intercept, slope)


def hangs_but_once(intercept, slope):
    """Return at the priors' medians alone."""
    if abs(slope + 1.0) > 1e-9:
        time.sleep(600)
    return line(intercept, slope)


def counted(intercept, slope):
    with Path("counted.txt").open("a") as file:
        file.write(f"{intercept!r} {slope!r}\n")
    time.sleep(0.01)
    return line(intercept, slope)


def broken(intercept, slope):
    if (intercept, slope) == (0.5, -1.0):
        return line(intercept, slope)
    raise RuntimeError("the licence has expired")


def never(intercept, slope):
    raise RuntimeError("no such file: mesh.dat")


def impure(intercept, slope):
    return {"x": X, "y": ("x", intercept + np.random.default_rng().normal() * X)}


def random(intercept, slope, seed):
    return {"x": X, "y": ("x", intercept + slope * X + np.random.default_rng(seed).normal(size=9))}


def process(intercept, slope):
    return {"x": X, "y": ("x", intercept + slope * X), "pid": LOADED * 0.0 + 1.0}


def text(intercept, slope):
    return {"y": "fine"}


def quits(intercept, slope):
    sys.exit(0)


def where(intercept, slope):
    return line(intercept, slope) if Path("plain.py").exists() else None
