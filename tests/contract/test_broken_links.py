"""A link that leads nowhere is called so by every reader, in the same words."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from convit.cli.search import index
from convit.data import open_samples
from convit.data.label_maps import read_label_map
from convit.finetuning.options import is_weight_file
from convit.images import ImageError, open_image
from convit.training.places import find_log
from convit.training.recipe_io import read_recipe
from convit.weights import load_weights


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("weights.safetensors", load_weights),
        ("weights.pth", load_weights),
        ("photo.jpg", open_image),
        ("map.json", read_label_map),
        ("data", open_samples),
        ("data.tar", open_samples),
        ("data.parquet", open_samples),
        ("imagenet", lambda link: open_samples(f"imagenet:{link}")),
        ("recipe.yaml", read_recipe),
        ("run", find_log),
        ("start.pth", lambda link: is_weight_file(str(link))),
        ("photos", lambda link: index(link.with_name("db"), folder=str(link))),
    ],
)
def test_a_link_that_leads_nowhere(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    (link := tmp_path / name).symlink_to(tmp_path / "moved away")
    words = f"{link}: is a link to {tmp_path / 'moved away'}, which is not there; mend the link, or name another path"
    with pytest.raises((FileNotFoundError, ImageError), match=f"^{re.escape(words)}$"):
        read(link)
