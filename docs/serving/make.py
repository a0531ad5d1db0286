"""Screenshots of the page of `convit serve`, on the photographs in examples/photos; needs Debian's chromium.

Run: python docs/serving/make.py
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from docs.documents import PHOTOGRAPHS, parser_of, run_convit
from tests.serving.conftest import serving

FOLDER = Path(__file__).parent
MODEL = "convit_mini_patch8_64.tiny_imagenet"
# name, width and height of the window, color scheme
VIEWS = (("desktop", 1160, 900, "light"), ("dark", 1160, 900, "dark"), ("phone", 390, 844, "light"))


def show_photos(page: Page, address: str) -> None:
    """Open the page, give it the photographs, and wait until the first is explained."""
    page.goto(address)
    page.locator("#files").set_input_files([PHOTOGRAPHS / "coffee.jpg", PHOTOGRAPHS / "cat.jpg"])
    page.locator(".classes").nth(1).wait_for()
    page.locator("#gate-table td").first.wait_for()


def main() -> None:
    """Write one PNG file for each view."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        index = Path(folder) / "photos.db"
        run_convit("index", PHOTOGRAPHS, "--db", index, "--model", MODEL)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with serving(Path(folder), "--model", MODEL, "--index", str(index)) as service:
            for name, width, height, scheme in VIEWS:
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # pyright: ignore[reportArgumentType]
                show_photos(page, service.url)
                page.locator("#found li").first.wait_for()
                if name == "dark":
                    page.locator("#show").select_option("attention")
                    page.locator("#layer").fill("3")
                    page.locator("#head").fill("2")
                page.screenshot(path=FOLDER / f"{name}.png", full_page=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    parser_of(__doc__).parse_args()
    main()
