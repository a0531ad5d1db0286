"""Pages that need nothing else."""

import base64
import io
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from convit.output.pages import data_url, fill_template, thumbnail


def test_what_is_filled_in_is_escaped_and_complete(tmp_path: Path) -> None:
    template = tmp_path / "page.html.j2"
    template.write_text("<p>{{ name }}</p>")
    assert fill_template(template, name="<script>") == "<p>&lt;script&gt;</p>"
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        fill_template(template)


@pytest.mark.parametrize(
    ("size", "small", "kind", "shown"), [((300, 200), 64, "jpeg", (160, 107)), ((64, 8), 64, "png", (64, 8))]
)
def test_pictures_are_small_files_inside_the_page(
    size: tuple[int, int], small: int, kind: str, shown: tuple[int, int]
) -> None:
    image = Image.new("RGB", size, "red")
    url = data_url(thumbnail(image, 160, small=small))
    head, _, body = url.partition(",")
    assert head == f"data:image/{kind};base64"
    assert Image.open(io.BytesIO(base64.b64decode(body))).size == shown
    assert image.size == size, "the picture stays as it was"
