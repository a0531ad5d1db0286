"""Whole runs over photographs: the figures, and what they are tied to."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convit import Classifier
from convit.data import open_samples
from convit.data.shards import read_shard
from convit.evaluation import Evaluation, Evaluator
from convit.model import ConViT, ConViTConfig


def _evaluate(data: Path | str, weights: Path, **options: object) -> Evaluation:
    return Evaluator(weights=weights, device="cpu", **options).evaluate(open_samples(data))  # pyright: ignore


def test_folder_against_the_classifier(folder: Path, weights: Path) -> None:
    evaluation = _evaluate(folder, weights, batch_size=5)
    files = sorted(folder.rglob("*.jpg"))
    found = Classifier(weights=weights, device="cpu", top_k=6)(files)
    best = [[prediction.label for prediction in row] for row in found]
    right = [row.index(file.parent.name) for row, file in zip(best, files, strict=True)]
    assert evaluation.count == len(files) == 18
    assert evaluation.correct_top1 == right.count(0)
    assert evaluation.correct_top5 == sum(rank < 5 for rank in right)
    assert evaluation.top1 == 100 * evaluation.correct_top1 / 18
    losses = [
        -torch.tensor(next(p.score for p in row if p.label == file.parent.name)).log().item()
        for row, file in zip(found, files, strict=True)
    ]
    assert evaluation.loss == pytest.approx(sum(losses) / 18, rel=1e-5)
    assert 0 < evaluation.correct_top5 <= 15, "the model never has the clock among its first five"


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_photographs_that_lie_on_their_side_are_seen_upright_unless_asked_otherwise(
    orientation: int, folder: Path, weights: Path, tmp_path: Path
) -> None:
    """The result says which."""
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for file in folder.rglob("*.jpg"):
        with Image.open(file) as image:
            for name, shown in (("upright", image), ("turned", image.transpose(turn))):
                place = tmp_path / name / file.parent.name
                place.mkdir(parents=True, exist_ok=True)
                shown.save(place / f"{file.stem}.png", exif=exif if name == "turned" else None)
    upright, turned = (_evaluate(tmp_path / name, weights) for name in ("upright", "turned"))
    assert turned.loss == pytest.approx(upright.loss, rel=1e-6)
    assert turned.preprocessing["apply_exif"] is True
    as_stored = _evaluate(tmp_path / "turned", weights, apply_exif=False)
    assert as_stored.preprocessing["apply_exif"] is False
    assert as_stored.scores.losses != pytest.approx(upright.scores.losses, rel=1e-3)


def test_shards_give_the_same_figures(folder: Path, shards: Path, weights: Path) -> None:
    from_folder = _evaluate(folder, weights)
    for data in (shards, f"{shards}/val-{{000000..000001}}.tar", f"{shards}/val-*.tar"):
        evaluation = _evaluate(data, weights, workers=0)
        assert (evaluation.count, evaluation.top1, evaluation.top5) == (18, from_folder.top1, from_folder.top5)
        assert evaluation.loss == pytest.approx(from_folder.loss, rel=1e-6)
        assert [file["name"] for file in evaluation.data["files"]] == ["val-000000.tar", "val-000001.tar"]


def test_classes_json_beside_shards_is_followed(
    tmp_path: Path, shards: Path, weights: Path, classes: tuple[str, ...], write_shard: Callable[..., None]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    order = sorted(classes)
    rows = [row for shard in sorted(shards.glob("*.tar")) for row in read_shard(shard)]
    write_shard(other / "a.tar.gz", [(key, order.index(classes[label]), content) for key, content, label in rows])
    (other / "classes.json").write_text(json.dumps([{"index": i, "name": name} for i, name in enumerate(order)]))
    assert _evaluate(other / "a.tar.gz", weights).loss == pytest.approx(_evaluate(shards, weights).loss, rel=1e-6)


def test_the_hashes(folder: Path, shards: Path, weights: Path) -> None:
    one = shards / "val-000000.tar"
    evaluation = _evaluate(one, weights)
    assert evaluation.weights == "six.safetensors"
    assert evaluation.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert evaluation.data_sha256 == hashlib.sha256(one.read_bytes()).hexdigest()
    whole = _evaluate(shards, weights)
    listing = "".join(f"{file['sha256']}  {file['name']}\n" for file in whole.data["files"])
    assert whole.data_sha256 == hashlib.sha256(listing.encode()).hexdigest()
    before = _evaluate(folder, weights).data_sha256
    assert _evaluate(folder, weights).data_sha256 == before
    (folder / "cat" / "0.jpg").rename(folder / "cat" / "4.jpg")
    assert _evaluate(folder, weights).data_sha256 != before


def test_what_stands_in_the_json(folder: Path, weights: Path) -> None:
    kept = json.loads(_evaluate(folder, weights, precision="bf16", img_size=(24, 40)).to_json())
    assert (kept["precision"], kept["img_size"], kept["architecture"]) == ("bf16", [24, 40], "convit_tiny")
    assert kept["preprocessing"]["crop_pct"] == 1.0
    assert kept["preprocessing"]["apply_exif"] is True
    assert set(kept["versions"]) == {"convit", "torch", "python"}
    assert (kept["unreadable"], kept["errors"], kept["classes"], kept["classes_in_data"]) == (0, [], 6, 6)


def test_unreadable_images_are_named_and_left_out(folder: Path, weights: Path) -> None:
    whole = _evaluate(folder, weights)
    (folder / "cat" / "text.jpg").write_text("no picture")
    (folder / "cat" / "gone.jpg").symlink_to("nowhere")
    (folder / "page" / "cut.jpg").write_bytes((folder / "page" / "0.jpg").read_bytes()[:900])
    evaluation = _evaluate(folder, weights)
    assert (evaluation.count, evaluation.unreadable, evaluation.loss) == (18, 3, pytest.approx(whole.loss))
    assert [error["name"] for error in evaluation.errors] == ["cat/gone.jpg", "cat/text.jpg", "page/cut.jpg"]
    assert all(error["error"].startswith(error["name"]) for error in evaluation.errors)


def test_a_module_can_be_handed_over(folder: Path) -> None:
    model = ConViT(ConViTConfig(img_size=32, patch_size=8, depth=2, local_up_to_layer=1, num_classes=6))
    evaluation = Evaluator(model).evaluate(open_samples(folder))
    assert (evaluation.model, evaluation.weights, evaluation.count) == ("ConViT", "", 18)


def test_classes_that_are_only_numbered_are_not_named(folder: Path) -> None:
    found = []
    for names in (None, tuple(f"class {index}" for index in range(6))):
        torch.manual_seed(0)
        model = ConViT(ConViTConfig(depth=2, local_up_to_layer=1, num_classes=6, img_size=32, patch_size=8))
        model.pretrained_cfg = {"label_names": names}
        found.append(Evaluator(model).evaluate(open_samples(folder)).top1)
    assert found[0] == found[1]


@pytest.mark.parametrize("choice", [{"num_classes": 0}, {"global_pool": ""}])
def test_models_that_classify_nothing_are_refused(choice: dict[str, object], folder: Path) -> None:
    config = ConViTConfig(img_size=32, patch_size=8, depth=2, local_up_to_layer=1, num_classes=6)
    with pytest.raises(ValueError, match=r"num_classes=0|global_pool"):
        Evaluator(ConViT(config.replace(**choice))).evaluate(open_samples(folder))


def test_the_images_are_streamed(shards: Path, weights: Path) -> None:
    """No more than a few batches are read ahead of the results."""
    images = open_samples(shards)
    taken = 0

    class Counting:
        kind, distinct_labels, classes, source, restricted = "shards", images.distinct_labels, None, "", False

        def take(self, places: Sequence[int]):
            nonlocal taken
            for image in images.take(places):
                taken += 1
                yield image

        def identity(self) -> dict[str, object]:
            return images.identity()

    outcomes = Evaluator(weights=weights, device="cpu", batch_size=2, workers=1).iterate(Counting(), range(18))
    next(outcomes)
    assert taken <= 8 + 2 * torch.get_num_threads()  # and a batch for each that is computed at the same time
    assert len(list(outcomes)) == 17


def test_flip_averages_an_image_and_its_mirror_image(folder: Path, weights: Path) -> None:
    plain, flipped = (Evaluator(weights=weights, device="cpu", tta=tta) for tta in (None, "flip"))
    images = list(torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8).numpy())
    (both,) = flipped._forward(images)
    (straight,), (mirrored,) = plain._forward(images), plain._forward([image[:, ::-1] for image in images])
    np.testing.assert_allclose(both, (straight + mirrored) / 2, atol=1e-5)
    assert not np.allclose(both, straight, atol=1e-2)
    evaluation = flipped.evaluate(open_samples(folder))
    assert evaluation.tta == "flip"
    assert evaluation.loss != plain.evaluate(open_samples(folder)).loss
    with pytest.raises(ValueError, match="tta is 'rotate', but must be 'flip' or None"):
        Evaluator(weights=weights, device="cpu", tta="rotate")


def test_figures_by_class_and_calibration(folder: Path, weights: Path) -> None:
    evaluation = _evaluate(folder, weights)
    scores = evaluation.scores
    assert scores is not None
    assert [row["count"] for row in evaluation.per_class] == [3] * 6
    assert evaluation.mean_class_top1 == pytest.approx(evaluation.top1), "all classes are of the same size"
    assert sum(count for *_, count in evaluation.confusion) == 18
    assert sum(count for right, taken, count in evaluation.confusion if right == taken) == evaluation.correct_top1
    assert sum(each["count"] for each in evaluation.calibration) == 18
    assert 0 <= evaluation.ece <= 100
    low, high = evaluation.intervals["top1"]
    assert 0 <= low <= evaluation.top1 <= high <= 100
    assert "images" not in json.loads(evaluation.to_json())
    images = json.loads(evaluation.to_json(with_images=True))["images"]
    assert images["ranks"] == scores.ranks.tolist()
    assert images["losses"] == pytest.approx(scores.losses.tolist(), rel=1e-6)
