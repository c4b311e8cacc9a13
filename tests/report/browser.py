"""A headless browser, where the machine has one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"


def needs_browser() -> pytest.MarkDecorator:
    """Skip a test where there is no browser, and say so."""
    reason = f"no headless browser here: none of {', '.join(_NAMES)}"
    return pytest.mark.skipif(not any(map(shutil.which, _NAMES)), reason=reason)


def opened(page: Path) -> tuple[str, str]:
    """Open a page, and return its document as it is when all its scripts have run, and what its console said."""
    browser = next(name for name in map(shutil.which, _NAMES) if name)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--disable-extensions"]
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser,
                *options,
                f"--user-data-dir={profile}",
                "--virtual-time-budget=60000",
                "--dump-dom",
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
    said = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return done.stdout, said
