"""`convit explain` on real photographs: a figure, a page in a browser, and what is refused in one line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Command = Callable[..., Any]
MODEL = ("--model", "convit_nano_patch4_32.cifar10", "--device", "cpu")


def test_a_figure_of_a_cat(convit: Command, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "cat.png"
    command = ("explain", photos / "cat.jpg", *MODEL, "-o", output)
    done = convit(*command, terminal={"out"})
    assert (done.code, done.out, done.err) == (0, f"{output}\n", "")
    with Image.open(output) as image:
        assert image.format == "PNG"
        assert min(image.size) > 1000
    before = output.read_bytes()
    convit(*command).fails("exists already")
    assert convit(*command, "--overwrite", "-q").out == ""
    assert output.read_bytes() == before


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_an_image_is_named_as_in_results(convit: Command, tmp_path: Path, suffix: str) -> None:
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (40, 30), "red").save(image)
    (named,) = [row["path"] for row in convit("classify", image, *MODEL).rows]
    assert named.startswith("file:")
    done = convit("explain", named, *MODEL, "-o", tmp_path / f"out{suffix}", "--layers", 2)
    assert (done.code, done.err) == (0, "")


def test_layers_heads_and_query_can_be_chosen(convit: Command, photos: Path, tmp_path: Path) -> None:
    sizes = []
    for number, options in enumerate(
        (["--layers", "2"], ["--layers", "2-4,6", "--heads", "1,3"], ["--query", "class"])
    ):
        output = tmp_path / f"{number}.png"
        done = convit("explain", photos / "space" / "rocket.jpg", *MODEL, "-o", output, *options)
        assert done.code == 0, done.err
        with Image.open(output) as image:
            sizes.append(image.size[1])
    assert sizes[1] > sizes[0] > sizes[2]


def test_a_page_shows_the_chosen_layer(convit: Command, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "astronaut.html"
    done = convit("explain", photos / "space" / "astronaut.png", *MODEL, "-o", output, "--query", "2,4")
    assert (done.code, done.rows, done.err) == (0, [{"path": str(output)}], "")
    page = output.read_text()
    assert "astronaut.png" in page
    assert page.count("<option") == 6 + 9


def test_a_page_shows_the_chosen_layer_in_a_browser(
    convit: Command, photos: Path, tmp_path: Path, in_browser: Callable[[Path], str]
) -> None:
    output = tmp_path / "astronaut.html"
    assert convit("explain", photos / "space" / "astronaut.png", *MODEL, "-o", output, "--query", "2,4").code == 0
    drawn = in_browser(output).partition('id="maps">')[2].partition("</section>")[0]
    assert drawn.count("<figure>") == 3
    assert "position; peak" in drawn
    # what a reader does: a click into the patch of row 6, column 1, and one step to the right with the keyboard
    script = """const stack = document.querySelector("#maps .stack"), box = stack.getBoundingClientRect();
    const clientX = box.left + box.width * 1.5 / 8, clientY = box.top + box.height * 6.5 / 8;
    stack.dispatchEvent(new MouseEvent("click", { clientX, clientY }));
    document.querySelector("#maps .stack").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));"""
    output.write_text(output.read_text().replace("</body>", f"<script>{script}</script></body>"))
    clicked = in_browser(output)
    assert 'id="query">the patch in row 6, column 2</span>' in clicked
    assert clicked.count("top: 75%; left: 25%") == 3
    assert clicked.partition('id="maps">')[2].partition("</section>")[0] != drawn


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "out.txt"], "ends in neither .png nor .html"),
        (["-o", "out.png", "--query", "8,0"], "8,0 is outside of the image's 8 x 8 patches"),
        (["-o", "out.png", "--query", "middle"], "must be ROW,COL"),
        (["-o", "out.png", "--query", "1,2,3"], "must be ROW,COL"),
        (["-o", "out.png", "--layers", "7"], "there is no layer 7; the model has layers 1 to 6"),
        (["-o", "out.png", "--layers", "a"], "--layers is 'a'"),
        (["-o", "out.png", "--layers", "3-1"], "put the smaller number first"),
        (["-o", "out.png", "--heads", "10"], "there is no head 10"),
        (["-o", "out.png", "--query", "class", "--layers", "1"], "layer 1 has no class token"),
        (["-o", "nowhere/out.png"], "nowhere"),
        ([], "--output"),
    ],
)
def test_wrong_input_is_one_line(
    convit: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    convit("explain", photos / "cat.jpg", *MODEL, *options).fails(words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["notes.txt", "nothing.jpg"])
def test_a_picture_that_cannot_be_read_is_one_line(convit: Command, photos: Path, tmp_path: Path, name: str) -> None:
    convit("explain", photos / name, *MODEL, "-o", tmp_path / "out.png").fails(name)
