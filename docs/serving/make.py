"""Screenshots of the page of `convit serve`, on the photographs in examples/photos; needs Debian's chromium.

Run: python docs/serving/make.py
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent
PHOTOS = FOLDER.parents[1] / "examples" / "photos"
MODEL = "convit_mini_patch8_64.tiny_imagenet"
# name, width and height of the window, color scheme
VIEWS = (("desktop", 1160, 900, "light"), ("dark", 1160, 900, "dark"), ("phone", 390, 844, "light"))


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """Start a service on a free port; gives its address."""
    command = [sys.executable, "-m", "convit", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"listening on (\S+)", line):
                yield found[1]
                return
        raise RuntimeError("the service did not start; run the same command by hand")
    finally:
        process.terminate()
        process.wait()


def show_photos(page: Page, address: str) -> None:
    """Open the page, give it the photographs, and wait until the first is explained."""
    page.goto(address)
    page.locator("#files").set_input_files([PHOTOS / "coffee.jpg", PHOTOS / "cat.jpg"])
    page.locator(".classes").nth(1).wait_for()
    page.locator("#gate-table td").first.wait_for()


def main() -> None:
    """Write one PNG file for each view."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        index = Path(folder) / "photos.db"
        build = ["index", str(PHOTOS), "--db", str(index), "--model", MODEL]
        subprocess.run([sys.executable, "-m", "convit", *build], check=True)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with serving("--model", MODEL, "--index", str(index)) as address:
            for name, width, height, scheme in VIEWS:
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # pyright: ignore[reportArgumentType]
                show_photos(page, address)
                page.locator("#found li").first.wait_for()
                if name == "dark":
                    page.locator("#show").select_option("attention")
                    page.locator("#layer").fill("3")
                    page.locator("#head").fill("2")
                page.screenshot(path=FOLDER / f"{name}.png", full_page=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
