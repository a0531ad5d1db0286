"""One folder with every format, mode and oddity: all readers see the same list of images and the same pixels."""

import ast
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import convit
from convit import Classifier, Embedder
from convit.analysis.explaining import explain
from convit.cli import main
from convit.data import CorruptImages, open_dataset, open_samples
from convit.evaluation import Evaluator
from convit.evaluation.probes.embedded import embed_labeled
from convit.finetuning.images import find_labeled_images
from convit.images import ImageError, find_images, open_image
from convit.model import ConViT, ConViTConfig
from convit.search import Index, embed_images, list_images
from convit.search.listing import list_files
from convit.search.updating import plan_update
from convit.training.recipe import Recipe
from convit.training.splits import open_split
from tests.data.making import encoded

SIDE = 32
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
Pixels = np.ndarray | None  # None: named as unreadable


def _even(*color: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), color, np.uint8)


def _as_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def _cases() -> dict[str, tuple[bytes, Pixels]]:
    """Name → (file, the pixels that it stands for)."""
    noise, full = Image.fromarray(NOISE), (SIDE, SIDE)
    found: dict[str, tuple[bytes, Pixels]] = {}
    for suffix, kind in (
        ("png", "PNG"),
        ("BMP", "BMP"),
        ("tif", "TIFF"),
        ("ppm", "PPM"),
        ("tga", "TGA"),
        ("ico", "ICO"),
    ):
        options = {"sizes": [full]} if kind == "ICO" else {}
        found[f"lossless.{suffix}"] = (encoded(noise, kind, **options), NOISE)
    found["lossless.webp"] = (encoded(noise, "WEBP", lossless=True), NOISE)
    found["lossless.jp2"] = (encoded(noise, "JPEG2000"), NOISE)
    for suffix, kind in (("jpg", "JPEG"), ("jfif", "JPEG"), ("avif", "AVIF"), ("gif", "GIF"), ("mpo", "MPO")):
        content = encoded(noise, kind)
        found[f"lossy.{suffix}"] = (content, _as_pillow(content))
    found["baseline called.png"] = found["lossy.jpg"]

    exif = Image.Exif()
    exif[0x0112] = 6
    found["turned.png"] = (encoded(noise, "PNG", exif=exif), np.rot90(NOISE, -1))
    found["clear.png"] = (encoded(Image.new("RGBA", full, (10, 20, 30, 0)), "PNG"), _even(255, 255, 255))
    found["half clear.png"] = (encoded(Image.new("LA", full, (0, 128)), "PNG"), _even(127, 127, 127))
    palette = Image.new("P", full, 1)
    palette.putpalette([0, 0, 0, 10, 20, 30] + [0] * 762)
    found["palette.png"] = (encoded(palette, "PNG"), _even(10, 20, 30))
    found["clear palette.png"] = (encoded(palette, "PNG", transparency=1), _even(255, 255, 255))
    found["bilevel.png"] = (encoded(Image.new("1", full, 1), "PNG"), _even(255, 255, 255))
    found["gray.png"] = (encoded(Image.new("L", full, 7), "PNG"), _even(7, 7, 7))
    deep = Image.fromarray(np.full(full, 20_000, np.uint16))
    found["deep.png"] = (encoded(deep, "PNG"), _even(78, 78, 78))
    found["float.tif"] = (encoded(Image.fromarray(np.full(full, 0.5, np.float32)), "TIFF"), _even(128, 128, 128))
    cmyk = encoded(Image.new("CMYK", full, (0, 255, 255, 0)), "JPEG")
    found["cmyk.jpg"] = (cmyk, _as_pillow(cmyk))
    swapped = _swapped_profile()
    expected = ImageCms.profileToProfile(noise, swapped, ImageCms.createProfile("sRGB"))
    assert expected is not None
    found["profile.png"] = (encoded(noise, "PNG", icc_profile=swapped.tobytes()), np.asarray(expected))

    found["postscript.jpg"] = (encoded(noise, "EPS"), None)
    found["text.ppm"] = (b"P3\n2 2 255\n" + b"0 " * 12, None)
    found["document.png"] = (b"%PDF-1.7\n", None)
    found["text.jpg"] = (b"not an image", None)
    found["empty.png"] = (b"", None)
    found["cut.jpg"] = (found["lossy.jpg"][0][:300], None)
    return found


def _swapped_profile() -> ImageCms.ImageCmsProfile:
    """sRGB with red and blue exchanged."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    content = bytearray(bytes(content).replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ"))
    return ImageCms.ImageCmsProfile(io.BytesIO(bytes(content)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Pixels]]:
    """A folder of two classes, and what each of its images must look like."""
    base = tmp_path_factory.mktemp("every")
    root, elsewhere, expected = base / "images", base / "elsewhere", dict[str, Pixels]()
    for number, (name, (content, pixels)) in enumerate(sorted(_cases().items())):
        path = f"{'even' if number % 2 else 'odd'}/{'deep/' if number % 3 else ''}{name}"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        expected[path] = pixels
    elsewhere.mkdir()
    (elsewhere / "linked.png").write_bytes(encoded(Image.fromarray(NOISE), "PNG"))
    (root / "odd/link").symlink_to(elsewhere)
    expected["odd/link/linked.png"] = NOISE
    (root / "odd/loop").symlink_to(root / "odd")
    (root / "odd/gone.jpg").symlink_to("nowhere.jpg")
    expected["odd/gone.jpg"] = None
    for hidden in (
        "odd/._0.jpg",
        "odd/.DS_Store",
        "__MACOSX/odd/0.jpg",
        "odd/.ipynb_checkpoints/0.jpg",
        "odd/Thumbs.db",
    ):
        (root / hidden).parent.mkdir(parents=True, exist_ok=True)
        (root / hidden).write_bytes(b"\0\5\26\7")
    for other in ("odd/notes.txt", "odd/vector.eps", "odd/layers.psd", "odd/table.fits"):
        (root / other).write_bytes(b"x")
    return root, expected


@pytest.fixture(scope="module")
def model() -> ConViT:
    torch.manual_seed(0)
    return ConViT(
        ConViTConfig(img_size=SIDE, patch_size=8, embed_dim=16, depth=2, local_up_to_layer=1, num_classes=2)
    ).eval()


@pytest.fixture(scope="module")
def embedder(model: ConViT) -> Embedder:
    return Embedder(model, batch_size=1, workers=0, normalize=True)


def _decoded(items: Iterable[tuple[str, Callable[[], Image.Image]]]) -> dict[str, Pixels]:
    found: dict[str, Pixels] = {}
    for name, take in items:
        try:
            found[name] = np.asarray(take())
        except ImageError:
            found[name] = None
    return found


def _assert_same(found: dict[str, Pixels], expected: dict[str, Pixels]) -> None:
    assert sorted(found) == sorted(expected)
    for name, pixels in expected.items():
        assert (found[name] is None) == (pixels is None), name
        assert pixels is None or np.array_equal(found[name], pixels), name


def test_the_opener_and_the_lister(folder: tuple[Path, dict[str, Pixels]], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program is started")

    monkeypatch.setattr("subprocess.Popen", refuse)
    root, expected = folder
    listed = [(path.relative_to(root).as_posix(), path) for path in find_images(root)]
    _assert_same(_decoded((name, lambda path=path: open_image(path)) for name, path in listed), expected)


def test_training_and_fine_tuning(folder: tuple[Path, dict[str, Pixels]], tmp_path: Path) -> None:
    root, expected = folder
    samples = open_dataset(root).samples
    names = list(samples.names)
    _assert_same(_decoded((name, lambda i=i: samples.image(i)) for i, name in enumerate(names)), expected)
    assert list(samples.labels) == [name.startswith("odd") for name in names]

    found = find_labeled_images(root)
    assert sum(found.counts().values()) == len(expected)
    values = {"name": "x", "model": {"architecture": "convit_tiny"}, "data": {"name": "x", "train": "."}}
    corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=len(expected))
    split = open_split(Recipe.model_validate(values), root, SIDE, SIDE, corrupt)
    for index in range(len(split.train)):
        split.train[(index, 0)]  # an image that cannot be read is counted
    unreadable = {Path(name).relative_to(root).as_posix() for name in corrupt.reasons()}
    assert unreadable == {name for name, pixels in expected.items() if pixels is None}


def test_embedding_evaluating_probing_and_searching(
    folder: tuple[Path, dict[str, Pixels]], model: ConViT, embedder: Embedder
) -> None:
    """Vectors stand for pixels: those of the files must be those of the expected pixels to the bit."""
    root, expected = folder
    readable = {name: pixels for name, pixels in expected.items() if pixels is not None}
    rows = embedder.iterate(list(readable.values()))
    vectors = {name: row.values for name, row in zip(readable, rows, strict=True)}
    wanted: dict[str, Pixels] = {name: vectors.get(name) for name in expected}

    files = find_images(root)
    names = [path.relative_to(root).as_posix() for path in files]
    _assert_same({n: row.values for n, row in zip(names, embedder.iterate(files), strict=True)}, wanted)
    data = open_samples(root)
    embedded = embed_labeled(data, embedder, {})
    probed: dict[str, Pixels] = dict(zip(embedded.names, embedded.vectors, strict=True))
    _assert_same(probed | dict.fromkeys(embedded.unreadable), wanted)
    collection = embed_images(list_images(root), embedder)
    places = [image.place for image in collection.images]
    searched: dict[str, Pixels] = dict(zip(places, collection.vectors, strict=True))
    _assert_same(searched | dict.fromkeys(collection.unreadable), wanted)
    assert sorted(plan_update(list_files(root), {}).embed) == sorted(expected)

    classifier = Classifier(model, batch_size=1, workers=0)
    scores = [[each.score for each in row.predictions] for row in classifier.iterate(list(readable.values()))]
    classified = dict(zip(names, classifier.iterate(files), strict=True))
    assert [[each.score for each in classified[name].predictions] for name in readable] == scores
    assert all(classified[name].error for name in set(expected) - set(readable))
    evaluator = Evaluator(model, batch_size=1, workers=0)
    outcomes = {outcome.name: outcome for outcome in evaluator.iterate(data)}
    assert {name for name, outcome in outcomes.items() if outcome.error} == set(expected) - set(readable)


def test_what_is_wrong_with_an_image_is_said_in_the_same_words(tmp_path: Path, model: ConViT) -> None:
    """By all but the path that is named in front: where it starts is the reader's, its form is not."""
    for folder in ("even", "odd"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "good.png").write_bytes(encoded(Image.fromarray(NOISE), "PNG"))
    (tmp_path / "even/gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "even/pipe.jpg")
    with (tmp_path / "even/sparse.jpg").open("wb") as file:
        file.truncate(1 << 30)
    for name in ("empty.jpg", "two\nlines.jpg", os.fsdecode(b"caf\xe9.jpg")):
        (tmp_path / "even" / name).write_bytes(b"" if name == "empty.jpg" else b"text")

    embedder, evaluator = Embedder(model, normalize=True, workers=0), Evaluator(model, workers=0)
    files, data, listed = find_images(tmp_path), open_samples(tmp_path), list_images(tmp_path)
    opened = [_said(lambda file=file: open_image(file)) for file in files]
    whole = [line for line in opened if line]
    wanted = [line.replace(f"{tmp_path}/", "") for line in whole]
    assert len(wanted) == 6
    assert [row.error or "" for row in embedder.iterate(files)] == opened
    assert [row.error or "" for row in Classifier(model, workers=0).iterate(files)] == opened
    assert [_said(lambda file=file: explain(model, file)) for file in files] == opened
    index = Index.open(tmp_path / "db", create=True, model=model)
    assert [*index.update(tmp_path).unreadable.values()] == whole
    assert [_said(lambda file=file: index.search(file)) for file in files] == opened
    assert [outcome.error for outcome in evaluator.iterate(data) if outcome.error] == wanted
    assert [*embed_labeled(data, embedder, {}).unreadable.values()] == wanted
    assert [*embed_images(listed, embedder).unreadable.values()] == wanted
    assert [_said(lambda place=place: data.image(place)) for place in range(len(data))] == opened


def _said(read: Callable[[], object]) -> str:
    try:
        read()
    except ImageError as error:
        return str(error)
    return ""


def test_fast_decoding_is_the_same_in_every_reader_and_is_said(tmp_path: Path, model: ConViT) -> None:
    large = Image.fromarray(NOISE).resize((40 * SIDE, 30 * SIDE), Image.Resampling.NEAREST)
    for name in ("even", "odd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "large.jpg").write_bytes(encoded(large, "JPEG"))
    files, data = find_images(tmp_path), open_samples(tmp_path)
    seen: dict[bool, np.ndarray] = {}
    for fast_decode in (False, True):
        embedder = Embedder(model, fast_decode=fast_decode)
        seen[fast_decode] = embedder(files)
        embedded = embed_labeled(data, embedder, {"preprocessing": embedder.preprocessing})
        for vectors in (embedded.vectors, embed_images(list_images(tmp_path), embedder).vectors):
            assert np.array_equal(vectors, seen[fast_decode])
        evaluator = Evaluator(model, fast_decode=fast_decode)
        for outcome, labels in zip(
            evaluator.iterate(data), Classifier(model, top_k=1, fast_decode=fast_decode)(files), strict=True
        ):
            assert outcome.predicted == labels[0].index
            assert outcome.confidence == pytest.approx(labels[0].score)
        assert evaluator.preprocessing == embedder.preprocessing
        assert embedded.identity["preprocessing"].get("fast_decode", False) is fast_decode
        assert embedder.preprocessing.get("fast_decode", False) is fast_decode
    assert not np.array_equal(seen[True], seen[False])


@pytest.mark.parametrize(
    "command", ["classify", "embed", "evaluate", "probe", "ablate", "index", "duplicates", "serve"]
)
def test_commands_that_read_many_images_can_decode_fast(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--fast-decode" in capsys.readouterr().out


def test_finding_duplicates_and_explaining(folder: tuple[Path, dict[str, Pixels]], model: ConViT) -> None:
    root, expected = folder
    listed = list_images(root)
    _assert_same(_decoded((p.place, lambda p=p: open_image(p.read())) for p in listed), expected)
    for name in ("odd/link/linked.png", *(name for name in expected if "clear" in name or "deep.png" in name)):
        file = next(path for path in find_images(root) if path.relative_to(root).as_posix() == name)
        assert np.array_equal(explain(model, file).pixels, explain(model, expected[name]).pixels)


def test_only_one_place_opens_images() -> None:
    package = Path(convit.__file__).parent
    copied = package / "export" / "predict.py"  # into exported folders, where it stands alone
    openers = [
        file.relative_to(package).as_posix()
        for file in set(package.rglob("*.py")) - {copied}
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Image.open", "PIL.Image.open", "decodelabeled")
    ]
    assert openers == ["images/opening.py"]
