"""What a page looks like in a browser: needs Debian's chromium."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path


def take_screenshot(page: Path, output: Path, *, width: int = 1160, height: int) -> None:
    """Open a page and keep what is seen.

    Args:
        page: an HTML file.
        output: the PNG file to write.
        width: of the window, pixels.
        height: of the window, pixels.

    Raises:
        FileNotFoundError: there is no chromium.
        RuntimeError: the browser complained of the page.
    """
    browser = shutil.which("chromium")
    if browser is None:
        raise FileNotFoundError("screenshots need chromium; install Debian's package of that name")
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
        options += [f"--window-size={width},{height}", f"--screenshot={output}", f"--user-data-dir={profile}"]
        done = subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    if complaints:
        raise RuntimeError(f"the browser complained of {page}: {complaints[0]}")
