"""The page in a browser: what a person does with it, without a complaint and without a request outside."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from convit.cli import main
from tests.serving.conftest import NANO, PHOTOS, Running, serving

BROWSER = shutil.which("chromium")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs a browser: chromium")
KEY = "a-key-of-this-test-alone"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def with_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with two models, an index and a key."""
    folder = tmp_path_factory.mktemp("page")
    assert main(["index", str(PHOTOS), "--db", str(folder / "db"), "--model", NANO, "--quiet"]) == 0
    (folder / "keys").write_text(f"{KEY}\n")
    models = ("--model", NANO, "--model", "convit_mini_patch8_64.tiny_imagenet")
    with serving(folder, *models, "--index", "db", "--api-key-file", "keys") as service:
        yield service


@pytest.fixture
def watched(browser: Browser) -> Iterator[Page]:
    """A window whose complaints and requests are looked at in the end."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    yield page
    home = page.url.rsplit("/", 1)[0]
    context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith((home, "data:", "blob:"))] == []


def _add(page: Page, *names: str) -> None:
    page.locator("#files").set_input_files([PHOTOS / name for name in names])
    page.locator(".classes").nth(len(names) - 1).wait_for()


def test_images_are_labeled_and_explained(watched: Page, running: Running) -> None:
    watched.goto(f"{running.url}/")
    _add(watched, "cat.jpg", "coffee.jpg")
    assert watched.locator(".classes").first.locator("bdi").all_inner_texts()[0] == "cat"
    assert watched.locator(".classes").first.locator("li").count() == 5
    watched.locator("#gate-table td").first.wait_for()
    assert watched.locator("#told").inner_text().startswith("Evidence for cat")
    watched.locator("#show").select_option("attention")
    watched.locator("#layer").fill("1")
    watched.locator("#head").fill("2")
    assert "layer 1, head 2. Gate 0." in watched.locator("#told").inner_text()
    assert watched.locator("#kind option").count() == 3
    watched.locator("#stack").press("ArrowUp")
    watched.wait_for_function("document.getElementById('told').textContent.includes('row 4, column 5 attends to')")
    watched.locator("#clear").click()
    assert watched.locator(".result").count() == 0


def test_a_patch_that_was_asked_for_is_forgotten_with_the_results(watched: Page, running: Running) -> None:
    watched.goto(f"{running.url}/")
    _add(watched, "cat.jpg")
    watched.locator("#gate-table td").first.wait_for()
    watched.locator("#show").select_option("attention")
    watched.locator("#layer").fill("1")
    # in one go, so that the page has no time to ask for the patch in between
    watched.evaluate("""() => {
        document.getElementById("stack").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp" }));
        document.getElementById("clear").click();
    }""")
    watched.wait_for_timeout(400)
    assert watched.locator(".result").count() == 0  # and, as in every test with this window, no error was raised


def test_it_works_by_keyboard(watched: Page, running: Running) -> None:
    watched.goto(f"{running.url}/")
    _add(watched, "cat.jpg", "coffee.jpg")
    watched.locator("#gate-table td").first.wait_for()
    watched.locator("body").press("Home")
    reached: list[str] = []
    for _ in range(14):
        watched.keyboard.press("Tab")
        reached.append(watched.evaluate("document.activeElement.id || document.activeElement.className"))
    for name in ("files", "camera", "clear", "pick", "stack", "show"):
        assert name in reached
    watched.locator(".pick").nth(1).press("Enter")
    watched.wait_for_function("document.querySelectorAll('.result')[1].classList.contains('chosen')")


def test_a_file_that_is_no_image_is_said(browser: Browser, running: Running, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff but no more")
    page = browser.new_page()
    page.goto(f"{running.url}/")
    page.locator("#files").set_input_files([tmp_path / "broken.jpg"])
    page.locator(".result .problem").wait_for()
    assert "the image: is damaged at its start" in page.locator(".result .problem").inner_text()
    _add(page, "cat.jpg")
    page.close()


def test_a_key_is_asked_for_and_neighbors_are_shown(watched: Page, with_index: Running) -> None:
    watched.goto(f"{with_index.url}/")
    watched.locator("#key").fill(KEY)
    watched.locator("#key-form button").click()
    _add(watched, "cat.jpg")
    watched.locator("#found li").first.wait_for()
    assert watched.locator("#found bdi").first.inner_text() == "cat.jpg"
    assert watched.locator("#found .soft").first.inner_text().endswith("similarity 1.000")
    watched.locator("#model").select_option(index=1)
    watched.wait_for_function("document.querySelectorAll('#gate-table tbody tr').length === 5")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_aloud(browser: Browser, running: Running, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{running.url}/")
    _add(page, "cat.jpg")
    page.locator("#gate-table td").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    named = "!!(each.labels?.length || each.ariaLabel || each.textContent.trim())"
    controls = f"[...document.querySelectorAll('button, input, select')].map((each) => {named})"
    assert set(page.evaluate(controls)) == {True}
    assert "cat.jpg: cat" in page.locator("[aria-live]").first.inner_text()
    assert page.locator("html").get_attribute("lang") == "en"
    page.close()


def test_the_description_works_without_a_network(watched: Page, running: Running) -> None:
    watched.goto(f"{running.url}/docs")
    assert "POST /v1/classify" in watched.locator("h2").all_inner_texts()
    assert watched.locator("script").count() == 0
