"""ImageNet-1k and its relatives: folders laid out as they are distributed, and the figures of a model on them."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convit.data import Samples, open_samples
from convit.data.imagenet import RELATIVES, named_relative
from convit.evaluation import Evaluator, competing_classes, match_classes
from convit.model import ConViT, ConViTConfig
from convit.output.files import hash_file
from convit.transforms import create_transform, resolve_model_data_config
from convit.weights.labels import class_names, class_wnids
from convit.weights.published import DATA_SETS
from tests.evaluation.storing import encoded, picture, write_file, write_folders

WNIDS = class_wnids("imagenet1k")
NAMES = class_names("imagenet1k")
SUBSETS = json.loads((Path(__file__).parents[2] / "src/convit/data/imagenet_subsets.json").read_text(encoding="utf-8"))
IN_A = [6, 11, 13, 15, 988]  # the first four and the last class of ImageNet-A, and ...
IN_R = [1, 2, 4, 6, 988]  # ... of ImageNet-R, by ImageNet-1k's numbers
VALIDATION = (65, 970, 230, 809, 516, 57)  # labels of the first six validation images, as published


@pytest.fixture(scope="module")
def model() -> ConViT:
    """A random model of ImageNet-1k's classes whose logits differ clearly from image to image."""
    torch.manual_seed(3)
    config = ConViTConfig(img_size=32, patch_size=8, embed_dim=16, depth=2, local_up_to_layer=1, num_classes=1000)
    made = ConViT(config).eval()
    with torch.no_grad():
        made.head.weight.mul_(40)
    return made


def _logits(model: ConViT, numbers: Sequence[int]) -> np.ndarray[Any, Any]:
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        return model(torch.stack([torch.as_tensor(transform(picture(number))) for number in numbers])).numpy()


def _validation_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def _write_validation(folder: Path, labels: Sequence[int] = VALIDATION, *, flat: bool = False) -> Path:
    """Picture n as validation image n + 1, in sub-folders by WordNet id or side by side."""
    for number, label in enumerate(labels):
        write_file((folder if flat else folder / str(WNIDS[label])) / _validation_name(number + 1), number)
    return folder


def _write_by_wnid(folder: Path, labels: Sequence[int]) -> Path:
    for number, label in enumerate(labels):
        write_file(folder / str(WNIDS[label]) / f"{number:03d}.jpg", number)
    return folder


def _pairs(images: Samples) -> dict[bytes, int]:
    return {bytes(image.content): image.label for image in images}  # pyright: ignore


def _check_labels(images: Samples, labels: Sequence[int]) -> None:
    """Picture n has label n of these, in whatever order the images come."""
    assert _pairs(images) == {encoded(number): label for number, label in enumerate(labels)}
    assert match_classes(images, NAMES, 1000)[labels[0]] == labels[0]
    assert match_classes(images, None, 1000)[labels[0]] == labels[0]


def test_sub_folders_by_wordnet_id(tmp_path: Path, model: ConViT) -> None:
    _write_validation(tmp_path / "val")
    for data in (f"imagenet:{tmp_path}", f"imagenet:{tmp_path / 'val'}"):
        _check_labels(open_samples(data), VALIDATION)
    images = open_samples(f"imagenet:{tmp_path}", split="validation")
    _check_labels(images, VALIDATION)
    logits = _logits(model, range(6))
    order = np.argsort(-logits, axis=1)
    found = Evaluator(model).evaluate(images)
    assert found.correct_top1 == sum(order[:, 0] == np.array(VALIDATION))
    assert found.correct_top5 == sum(label in row for label, row in zip(VALIDATION, order[:, :5], strict=True))
    shifted = np.exp(logits.astype(np.float64))
    losses = -np.log(shifted[range(6), VALIDATION] / shifted.sum(axis=1))
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert (found.count, found.classes_in_data, found.competing) == (6, 6, 1000)


def test_the_right_classes_score_fully(tmp_path: Path, model: ConViT) -> None:
    """What the model says is made the label: then every image is right."""
    said = [int(label) for label in _logits(model, range(6)).argmax(axis=1)]
    found = Evaluator(model).evaluate(open_samples(f"imagenet:{_write_validation(tmp_path, said)}"))
    assert (found.top1, found.top5, found.count) == (100, 100, 6)


def _write_solution(path: Path, labels: Sequence[int]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["ImageId", "PredictionString"])
        for number, label in reversed(list(enumerate(labels, start=1))):  # Kaggle's are in no order
            box = f"{WNIDS[label]} 85 1 499 272 "
            rows.writerow([Path(_validation_name(number)).stem, box * (1 + number % 2)])


def test_images_side_by_side_as_from_kaggle(tmp_path: Path) -> None:
    place = tmp_path / "ILSVRC/Data/CLS-LOC/val"
    _write_validation(place, flat=True)
    _write_solution(tmp_path / "LOC_val_solution.csv", VALIDATION)
    for folder in (tmp_path, place):
        images = open_samples(f"imagenet:{folder}")
        _check_labels(images, VALIDATION)
        kept = images.identity()
        assert kept["labels"] == {
            "name": "LOC_val_solution.csv",
            "sha256": hash_file(tmp_path / "LOC_val_solution.csv"),
        }
    before = images.identity()["sha256"]
    _write_solution(tmp_path / "LOC_val_solution.csv", VALIDATION[::-1])
    assert open_samples(f"imagenet:{tmp_path}").identity()["sha256"] != before


def _write_devkit(folder: Path, labels: Sequence[int]) -> None:
    """Ground truth and meta.mat whose own numbers run against the order of WordNet ids, with a group above them."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    kinds: Any = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(1000 - number, wnid, NAMES[number], "", 0) for number, wnid in enumerate(WNIDS)]
    synsets = np.array([*rows, (1001, "n00001740", "entity", "", 5)], dtype=kinds)
    savemat(folder / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    truth = "".join(f"{1000 - label}\n" for label in labels)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


@pytest.mark.parametrize("place", [".", "data", "ILSVRC2012_devkit_t12/data"])
def test_images_side_by_side_with_the_devkit(tmp_path: Path, place: str) -> None:
    _write_validation(tmp_path / "val", flat=True)
    _write_devkit(tmp_path / place, VALIDATION)
    images = open_samples(f"imagenet:{tmp_path}")
    _check_labels(images, VALIDATION)
    assert images.identity()["labels"]["name"] == "ILSVRC2012_validation_ground_truth.txt"


def test_images_side_by_side_with_ids_in_their_names(tmp_path: Path) -> None:
    for number, label in enumerate(VALIDATION):
        write_file(tmp_path / f"ILSVRC2012_val_{number + 1:08d}_{WNIDS[label]}.JPEG", number)
    images = open_samples(f"imagenet:{tmp_path}")
    _check_labels(images, VALIDATION)
    assert "labels" not in images.identity()


def _flat(folder: Path) -> None:
    _write_validation(folder, flat=True)


def _devkit_without_meta(folder: Path) -> None:
    _flat(folder)
    _write_devkit(folder, VALIDATION)
    (folder / "meta.mat").unlink()


def _devkit_damaged(folder: Path) -> None:
    _flat(folder)
    _write_devkit(folder, VALIDATION)
    (folder / "meta.mat").write_bytes(b"no matrix")


def _devkit_short(folder: Path) -> None:
    _flat(folder)
    _write_devkit(folder, VALIDATION[:4])


def _devkit_no_numbers(folder: Path) -> None:
    _flat(folder)
    _write_devkit(folder, VALIDATION)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("cat\n")


def _solution_short(folder: Path) -> None:
    _flat(folder)
    _write_solution(folder / "LOC_val_solution.csv", VALIDATION[:5])


def _solution_other(folder: Path) -> None:
    _flat(folder)
    (folder / "LOC_val_solution.csv").write_text("name,class\na,b\n")


def _solution_foreign(folder: Path) -> None:
    _flat(folder)
    rows = "".join(f"{Path(_validation_name(number)).stem},n00001740 1 2 3 4\n" for number in range(1, 7))
    (folder / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + rows)


def _foreign_picture(folder: Path) -> None:
    _flat(folder)
    write_file(folder / "holiday.jpg", 9)


def _class_names(folder: Path) -> None:
    write_folders(folder, {"cat": [0], "dog": [1]})


def _foreign_sub_folder(folder: Path) -> None:
    _write_validation(folder)
    write_folders(folder, {"n00001740": [7], "cats": [8]})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_flat, r"nothing says the labels of the images in .*; put LOC_val_solution\.csv .* beside them, or sort them"),
        (_devkit_without_meta, r"the devkit's own class numbers, and there is no meta\.mat beside it"),
        (_devkit_damaged, r"meta\.mat cannot be read as the devkit's meta\.mat"),
        (_devkit_short, r"ground_truth\.txt has no label for ILSVRC2012_val_00000005\.JPEG"),
        (_devkit_no_numbers, r"ground_truth\.txt is not a list of class numbers"),
        (_solution_short, r"LOC_val_solution\.csv has no label for ILSVRC2012_val_00000006\.JPEG"),
        (_solution_other, r"LOC_val_solution\.csv has not the columns ImageId and PredictionString"),
        (_solution_foreign, r"has the label 'n00001740', none of ImageNet-1k's, for ILSVRC2012_val_00000001\.JPEG"),
        (_foreign_picture, r"holiday\.jpg is not a validation image of ImageNet-1k"),
        (_class_names, r"is not laid out as ImageNet-1k; expected are sub-folders of images named by WordNet ids"),
        (_foreign_sub_folder, r"has cats, n00001740, not among the 1000 classes of ImageNet-1k"),
    ],
)
def test_what_is_laid_out_otherwise_says_what_was_expected(tmp_path: Path, make: Any, words: str) -> None:
    make(tmp_path)
    with pytest.raises(ValueError, match=words) as caught:
        open_samples(f"imagenet:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_the_devkit_needs_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _flat(tmp_path)
    _write_devkit(tmp_path, VALIDATION)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"meta\.mat needs the package .*pip install 'convit\[evaluate\]'"):
        open_samples(f"imagenet:{tmp_path}")


@pytest.mark.parametrize("flat", [False, True])
def test_real_labels(tmp_path: Path, model: ConViT, flat: bool) -> None:
    logits = _logits(model, range(6))
    best = [int(label) for label in logits.argmax(axis=1)]
    second = [int(label) for label in np.argsort(-logits, axis=1)[:, 1]]
    # right by the second of two; right alone; without a label; three times wrong
    sets = [[999 - best[0], best[0]], [best[1]], [], [(best[3] + 1) % 1000], [second[4]]]
    sets.append([second[5], (second[5] + 7) % 1000])
    _write_validation(tmp_path / "val", flat=flat)
    (tmp_path / "real.json").write_text(json.dumps(sets))
    images = open_samples(f"imagenet-real:{tmp_path}")
    assert len(images) == 5
    assert {image.accepted for image in images} == {tuple(each) for each in sets if each}
    assert images.distinct_labels == sorted({label for each in sets for label in each})
    kept = images.identity()
    assert (kept["dataset"], kept["without_label"], kept["complete"]) == ("imagenet-real", 1, False)
    assert kept["labels"] == {"name": "real.json", "sha256": hash_file(tmp_path / "real.json")}
    assert (kept["kind"], kept["images_of_release"]) == ("folder", 50_000)

    right = [best[number] in each for number, each in enumerate(sets) if each]
    found = Evaluator(model).evaluate(images)
    assert (found.count, found.correct_top1) == (5, sum(right)) == (5, 2)
    liked = [max(each, key=lambda label: logits[number, label]) for number, each in enumerate(sets) if each]
    places = [number for number, each in enumerate(sets) if each]
    softmax = np.exp(logits.astype(np.float64))
    losses = [-np.log(softmax[place, label] / softmax[place].sum()) for place, label in zip(places, liked, strict=True)]
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"there is no real\.json in .*reassessed-imagenet"),
        ("[[1", r"real\.json is not valid JSON"),
        ("[[1], 2]", r"real\.json is not a list of lists of class numbers up to 999"),
        ("[[1000]]", r"real\.json is not a list of lists of class numbers up to 999"),
        ("[]", r"real\.json is not a list of lists"),
        ("[[1], [2]]", r"ILSVRC2012_val_00000003\.JPEG is not among the 2 images of .*real\.json"),
        ("[[], [], [], [], [], []]", r"real\.json has no label for any of the 6 images"),
    ],
)
def test_wrong_real_labels(tmp_path: Path, content: str | None, words: str) -> None:
    _write_validation(tmp_path, flat=True)
    if content is not None:
        (tmp_path / "real.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        open_samples(f"imagenet-real:{tmp_path}")


def test_real_labels_go_by_the_names_of_the_images(tmp_path: Path) -> None:
    _write_by_wnid(tmp_path, [1, 2])
    (tmp_path / "real.json").write_text("[[1], [2]]")
    with pytest.raises(ValueError, match=r"000\.jpg is not among the 2 images .* goes by their names"):
        open_samples(f"imagenet-real:{tmp_path}")


def test_v2_counts_its_folders_as_numbers(tmp_path: Path, model: ConViT) -> None:
    labels = (0, 2, 10, 100, 999)
    for number, label in enumerate(labels):
        write_file(tmp_path / str(label) / f"{number}f.jpeg", number)
    images = open_samples(f"imagenet-v2:{tmp_path}")
    _check_labels(images, labels)
    found = Evaluator(model).evaluate(images)
    assert found.correct_top1 == sum(_logits(model, range(5)).argmax(axis=1) == np.array(labels))
    said = [int(label) for label in _logits(model, range(5)).argmax(axis=1)]
    for number, label in enumerate(said):
        write_file(tmp_path / "said" / str(label) / f"{number}f.jpeg", number)
    assert Evaluator(model).evaluate(open_samples(f"imagenet-v2:{tmp_path / 'said'}")).top1 == 100


@pytest.mark.parametrize("name", ["1000", "007", "cats"])
def test_v2_refuses_what_is_no_class_number(tmp_path: Path, name: str) -> None:
    write_folders(tmp_path, {"0": [0], name: [1]})
    with pytest.raises(ValueError, match=f"has {name}, not among the 1000 classes of ImageNet V2"):
        open_samples(f"imagenet-v2:{tmp_path}")


@pytest.mark.parametrize(("name", "labels"), [("imagenet-a", IN_A), ("imagenet-r", IN_R)])
def test_only_the_classes_of_a_and_r_compete(tmp_path: Path, model: ConViT, name: str, labels: list[int]) -> None:
    numbers = sorted(WNIDS.index(wnid) for wnid in SUBSETS[name]["wnids"])
    logits = _logits(model, range(5))
    among = np.array(numbers)[logits[:, numbers].argmax(axis=1)]
    assert (among != logits.argmax(axis=1)).any(), "the restriction must matter here"
    labels = [*labels[:3], *(int(label) for label in among[3:])]  # the last two are right
    for folder in (tmp_path / "x", tmp_path / "y" / name):  # the images, or what holds the archive's folder
        _write_by_wnid(folder, labels)
        (folder / "README.txt").write_text("as in the archive")
    for folder in (tmp_path / "x", tmp_path / "y"):
        images = open_samples(f"{name}:{folder}")
        _check_labels(images, labels)
        assert images.restricted
        assert list(images.competing) == numbers
        assert competing_classes(images, NAMES, 1000) == competing_classes(images, None, 1000) == numbers
    found = Evaluator(model).evaluate(images)
    assert (found.count, found.competing) == (5, 200)
    assert found.correct_top1 == sum(among == np.array(labels)) >= 2
    softmax = np.exp(logits.astype(np.float64))[:, numbers]
    right = softmax[range(5), [numbers.index(label) for label in labels]]
    assert found.loss == pytest.approx(-np.log(right / softmax.sum(axis=1)).mean(), rel=1e-5)


def test_a_class_outside_of_a_is_refused(tmp_path: Path) -> None:
    _write_by_wnid(tmp_path, [6, 0])
    with pytest.raises(ValueError, match="has n01440764, not among the 200 classes of ImageNet-A"):
        open_samples(f"imagenet-a:{tmp_path}")


def test_a_model_without_some_of_the_competing_classes_is_refused(tmp_path: Path) -> None:
    images = open_samples(f"imagenet-a:{_write_by_wnid(tmp_path, [6])}")
    with pytest.raises(
        ValueError, match=r"in ImageNet-A in .* are none of the model's 2 classes .*; give a label map, or"
    ):
        match_classes(images, (NAMES[6], NAMES[11]), 2)


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_the_lists_of_classes(name: str) -> None:
    wnids = SUBSETS[name]["wnids"]
    assert len(set(wnids)) == len(wnids) == 200
    assert set(wnids) <= set(WNIDS)
    assert wnids == sorted(wnids)
    # timm holds the same facts, from the same authors
    import timm

    theirs = Path(timm.__file__).parent / f"data/_info/{name.replace('-', '_')}_synsets.txt"
    assert wnids == theirs.read_text().split()


def test_sketch(tmp_path: Path, model: ConViT) -> None:
    said = [int(label) for label in _logits(model, range(4)).argmax(axis=1)]
    _write_by_wnid(tmp_path / "sketch", said)
    for folder in (tmp_path, tmp_path / "sketch"):
        images = open_samples(f"imagenet-sketch:{folder}")
        _check_labels(images, said)
        assert not images.restricted
    found = Evaluator(model).evaluate(images)
    assert (found.top1, found.count, found.competing) == (100, 4, 1000)
    assert found.data["dataset"] == "imagenet-sketch"


@pytest.mark.parametrize("name", RELATIVES)
def test_a_folder_that_is_not_there_or_empty(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; name the one that ImageNet"):
        open_samples(f"{name}:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match=r"is not laid out as ImageNet.*; expected are sub-folders"):
        open_samples(f"{name}:{tmp_path}")
    with pytest.raises(ValueError, match="has no split 'val'; it has no folder"):
        open_samples(f"{name}:{tmp_path}", split="val")


def test_whether_a_release_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    _write_by_wnid(tmp_path, [6, 11])
    assert open_samples(f"imagenet-a:{tmp_path}").identity()["complete"] is False
    smaller = {**RELATIVES, "imagenet-a": replace(RELATIVES["imagenet-a"], images=2)}
    monkeypatch.setattr("convit.data.imagenet.RELATIVES", smaller)
    kept = open_samples(f"imagenet-a:{tmp_path}").identity()
    assert (kept["complete"], kept["images_of_release"], kept["dataset"]) == (True, 2, "imagenet-a")


def test_names_are_told_from_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named_relative("imagenet") is None
    assert named_relative("imagenet/val") is None
    assert named_relative(["imagenet:x"]) is None
    with pytest.raises(
        ValueError, match=r"'imagenet-c' is none of ImageNet's relatives .*: imagenet, imagenet-real, imagenet-v2"
    ):
        open_samples(f"imagenet-c:{tmp_path}")
    assert named_relative("imagenet-v2:a:b") == ("imagenet-v2", Path("a:b"))
    write_folders(tmp_path / "imagenet", {"a": [0]})
    assert open_samples(tmp_path / "imagenet").kind == "folder"
    monkeypatch.setenv("HOME", str(tmp_path))
    _write_by_wnid(tmp_path / "home", [6])
    assert len(open_samples("imagenet-a:~/home")) == 1


def test_an_image_that_cannot_be_read_is_named_as_ever(tmp_path: Path, model: ConViT) -> None:
    _write_by_wnid(tmp_path, [6, 11])
    (tmp_path / str(WNIDS[6]) / "000.jpg").write_text("no picture")
    found = Evaluator(model).evaluate(open_samples(f"imagenet-a:{tmp_path}"))
    assert (found.count, found.unreadable) == (1, 1)
    assert found.errors[0]["name"] == f"{WNIDS[6]}/000.jpg"


def test_the_page_on_data_names_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs/labeled_data.md").read_text(encoding="utf-8")
    assert {name: relative.title for name, relative in RELATIVES.items()} == DATA_SETS
    for name, relative in RELATIVES.items():
        assert f"| `{name}` |" in page
        assert f"{relative.images:,} images" in page
