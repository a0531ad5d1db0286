"""Every form of labeled data keeps one protocol: order, places, encoded images, and an identity at any time."""

import hashlib
import io
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convit.data import EvenlySpaced, Samples, evenly_spaced, open_samples
from convit.data.label_maps import Relabeled, read_label_map
from convit.evaluation import Evaluator
from convit.model import ConViT, ConViTConfig
from convit.output.files import hash_file
from convit.transforms import create_transform, resolve_model_data_config
from tests.data.serving import Served, served
from tests.evaluation.storing import (
    encoded,
    picture,
    take_for_hub,
    write_cifar10,
    write_folders,
    write_parquet,
    write_shard,
)

LABELS = [0, 0, 1, 1, 1, 2]  # of pictures 0 to 5
NAMES = ("a", "b", "c")
FORMS = ("folder", "shards", "remote shards", "parquet", "remote parquet", "hub", "cifar")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as state:
        yield state


@pytest.fixture(params=FORMS)
def images(request: pytest.FixtureRequest, tmp_path: Path, server: Served, monkeypatch: pytest.MonkeyPatch) -> Samples:
    """Pictures 0 to 5 with their labels, in one of the forms."""
    pairs = list(enumerate(LABELS))
    if request.param == "folder":
        write_folders(tmp_path / "x", {"a": [0, 1], "b": [2, 3, 4], "c": [5]})
        return open_samples(tmp_path / "x")
    if request.param.endswith("shards"):
        for number, part in enumerate((pairs[:2], pairs[2:3], pairs[3:])):
            write_shard(tmp_path / f"x-{number}.tar", part)
        (tmp_path / "classes.json").write_text('["a", "b", "c"]')
        return open_samples(f"{server.url if 'remote' in request.param else tmp_path}/x-{{0..2}}.tar")
    if request.param.endswith("parquet"):
        write_parquet(tmp_path / "x-0.parquet", pairs[:5], NAMES)
        write_parquet(tmp_path / "x-1.parquet", pairs[5:], NAMES)
        return open_samples(f"{server.url if 'remote' in request.param else tmp_path}/x-{{0..1}}.parquet")
    if request.param == "hub":
        data = take_for_hub(tmp_path, monkeypatch)
        write_parquet(data / "validation-00000-of-00001.parquet", pairs, NAMES)
        write_parquet(data / "train-00000-of-00001.parquet", [(9, 0)], NAMES)
        return open_samples("hub:owner/name:validation")
    return open_samples(f"cifar10:{write_cifar10(tmp_path, LABELS, monkeypatch)}:test")


def _pixels(content: Any) -> np.ndarray[Any, Any]:
    opened = content if isinstance(content, Image.Image) else Image.open(io.BytesIO(content))
    return np.asarray(opened.convert("RGB"))


def test_all_images_come_in_order(images: Samples) -> None:
    for _ in range(2):
        found = list(images)
        assert [image.label for image in found] == LABELS
        assert all(image.accepted == () for image in found)
        for number, image in enumerate(found):
            assert np.array_equal(_pixels(image.content), np.asarray(picture(number)))
            if images.kind != "cifar":
                assert image.content == encoded(number)  # as it is stored
    assert len({image.name for image in found}) == len(images) == 6
    assert (images.distinct_labels, images.restricted) == ([0, 1, 2], False)
    assert images.classes is not None
    assert [each.name for each in images.classes][:3] == (["c0", "c1", "c2"] if images.kind == "cifar" else list(NAMES))


@pytest.mark.parametrize("places", [[], [0], [5], [1, 2, 5], range(6), range(1, 6, 2)])
def test_places_are_the_same_images(images: Samples, places: Any) -> None:
    whole = list(images)
    taken = list(images.take(places))
    assert [image.name for image in taken] == [whole[place].name for place in places]
    assert [image.label for image in taken] == [whole[place].label for place in places]
    assert all(
        np.array_equal(_pixels(one.content), _pixels(whole[place].content))
        for one, place in zip(taken, places, strict=True)
    )


@pytest.mark.parametrize("places", [[6], [-1], [2, 2], [3, 1]])
def test_wrong_places_are_refused(images: Samples, places: list[int]) -> None:
    with pytest.raises(ValueError, match="must ascend and lie between 0 and 5"):
        images.take(places)


def test_the_identity_is_complete_at_any_time(images: Samples) -> None:
    before = images.identity()
    next(iter(images))
    list(islice(images, 3))
    assert images.identity() == before
    list(images)
    assert images.identity() == before
    assert before["kind"] == images.kind
    assert len(before["sha256"]) == 64
    assert "name" in before or all({"name", "sha256"} == set(file) for file in before["files"])


def test_file_hashes(images: Samples, tmp_path: Path) -> None:
    found = images.identity()
    if images.kind == "folder":
        assert found["name"] == "x"
        rows = [(encoded(number), name) for number, name in enumerate(["a/00", "a/01", "b/02", "b/03", "b/04", "c/05"])]
        listing = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}.png\n" for content, name in rows)
        assert found["sha256"] == hashlib.sha256(listing.encode()).hexdigest()
    elif images.kind == "hub":
        rows = [f"{hashlib.sha256(encoded(number)).hexdigest()}  {label}\n" for number, label in enumerate(LABELS)]
        assert found["sha256"] == hashlib.sha256("".join(rows).encode()).hexdigest()
        assert found["name"] == "hub:owner/name:validation"
    else:
        folder = tmp_path / "cifar-10-batches-py" if images.kind == "cifar" else tmp_path
        for file in found["files"]:
            assert file["sha256"] == hash_file(folder / file["name"].rpartition("/")[2])


def test_evenly_spaced_images_of_every_form(images: Samples) -> None:
    some = EvenlySpaced(images, 3)
    assert [image.label for image in some] == [0, 1, 1]
    assert [image.label for image in some.take([0, 2])] == [0, 1]
    assert some.identity() == {**images.identity(), "evenly_spaced": 3}
    assert (len(some), some.kind, some.source) == (3, images.kind, images.source)


def test_evenly_spaced_places() -> None:
    assert evenly_spaced(4, 4) == evenly_spaced(9, 4) == [0, 1, 2, 3]
    assert evenly_spaced(3, 10) == [0, 3, 6]
    with pytest.raises(ValueError, match="the limit is 0"):
        evenly_spaced(0, 4)


def test_places_of_a_folder_are_read_alone(tmp_path: Path) -> None:
    """The others need not even be readable."""
    images = open_samples(write_folders(tmp_path / "x", {"a": [0, 1], "b": [2]}))
    (tmp_path / "x/a/00.png").unlink()
    assert [image.content for image in images.take([1, 2])] == [encoded(1), encoded(2)]
    (gone,) = images.take([0])
    assert gone.content == tmp_path / "x/a/00.png"  # whoever opens it says why


def test_shards_without_a_wanted_place_are_not_opened(tmp_path: Path) -> None:
    for number in range(3):
        write_shard(tmp_path / f"x-{number}.tar", [(number, 0), (number + 3, 1)])
    images = open_samples(tmp_path)
    (tmp_path / "x-1.tar").unlink()
    assert [image.name for image in images.take([1, 4])] == ["s03", "s02"]


def test_a_shard_that_has_lost_samples_is_named(tmp_path: Path) -> None:
    images = open_samples(write_shard(tmp_path / "x.tar", [(0, 0), (1, 1)]))
    write_shard(tmp_path / "x.tar", [(0, 0)])
    with pytest.raises(ValueError, match=r"x\.tar holds fewer samples than when it was opened"):
        list(images)


def test_names_that_labels_are_in_a_table(tmp_path: Path) -> None:
    images = open_samples(write_parquet(tmp_path / "x.parquet", [(0, "dog"), (1, "cat"), (2, "dog")]))
    assert images.classes is not None
    assert [each.name for each in images.classes] == ["cat", "dog"]
    assert [(image.name, image.label) for image in images] == [
        ("x.parquet row 0", 1),
        ("x.parquet row 1", 0),
        ("x.parquet row 2", 1),
    ]
    assert open_samples(write_parquet(tmp_path / "y.parquet", [(0, 0)])).classes is None


def test_a_row_without_an_image_comes_empty(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"image": [{"bytes": encoded(0)}, {"bytes": None}], "label": [0, 1]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert [image.content for image in open_samples(tmp_path / "x.parquet")] == [encoded(0), b""]


def test_remote_shards_are_read_once_to_open_and_once_to_use(tmp_path: Path, server: Served) -> None:
    write_shard(tmp_path / "x.tar", [(0, 0), (1, 1)])
    images = open_samples(f"{server.url}/x.tar")
    list(images)
    images.identity()
    assert server.asked["x.tar"] == 2


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        ("nowhere", FileNotFoundError, "there is no folder nowhere"),
        ("x-*.parquet", FileNotFoundError, r"no Parquet file at x-\*\.parquet"),
        ("text.md", ValueError, "neither a folder with a sub-folder per class nor a shard"),
        ("bad.parquet", ValueError, r"bad\.parquet cannot be read as Parquet"),
    ],
)
def test_what_is_no_data_is_named(
    data: str, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.md", "bad.parquet"):
        (tmp_path / name).write_text("x")
    with pytest.raises(kind, match=words) as caught:
        open_samples(data)
    assert "\n" not in str(caught.value)


def test_a_model_scores_the_same_on_every_form(images: Samples, tmp_path: Path) -> None:
    torch.manual_seed(2)
    config = ConViTConfig(img_size=32, patch_size=8, embed_dim=16, depth=2, local_up_to_layer=1, num_classes=10)
    model = ConViT(config).eval()
    with torch.no_grad():
        model.head.weight.mul_(40)
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        batch = torch.stack([torch.as_tensor(transform(picture(number))) for number in range(6)])
        logits = model(batch).double().numpy()
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[range(6), LABELS]

    targets = {name: number for number, name in enumerate(NAMES)} | {f"c{number}": number for number in range(3)}
    (tmp_path / "map.json").write_text(json.dumps(targets))
    found = Evaluator(model, batch_size=4).evaluate(Relabeled(images, read_label_map(tmp_path / "map.json")))
    assert (found.count, found.correct_top1) == (6, (logits.argmax(axis=1) == np.array(LABELS)).sum())
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert found.data["label_map"]["name"] == "map.json"
