"""An index follows its folder, survives what can happen to it, and refuses what does not fit."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from convit import Embedder
from convit.images.lists import list_source
from convit.model import ConViT, ConViTConfig
from convit.search import Index
from convit.search.nearest import Found, search_approximately
from convit.search.store import Store

MODEL = "convit_nano_patch4_32.cifar10"
Opener = Callable[..., Index]
_SLOW = """
import sys, time
from convit.search import Index
def advance():
    print("one", flush=True)
    time.sleep(0.3)
Index.open(sys.argv[1], create=True, model=sys.argv[2], workers=0, batch_size=1).update(
    sys.argv[3], commit_every=2, advance=advance)
"""


def test_rows_say_what_the_files_are(open_index: Opener, folder: Path) -> None:
    index = open_index()
    done = index.update(folder)
    assert (done.new, done.changed, done.removed, done.unchanged, done.unreadable) == (6, 0, 0, 0, {})
    (hit,) = index.search(folder / "cat" / "1.png", k=1)
    assert (hit.rank, hit.path, hit.label) == (1, "cat/1.png", "cat")
    with Image.open(folder / "cat" / "1.png") as image:
        assert (hit.width, hit.height) == image.size
    assert hit.score == pytest.approx(1, abs=1e-5)


def test_vectors_are_those_of_the_embedder(open_index: Opener, folder: Path) -> None:
    index = open_index()
    index.update(folder)
    expected = Embedder(MODEL, normalize=True)(folder / "coffee" / "1.png")
    rows = index._store.read(["vector"], "path = 'coffee/1.png'").to_pylist()
    np.testing.assert_allclose(rows[0]["vector"], expected, atol=1e-6)


def test_only_what_is_new_or_changed_is_embedded(
    open_index: Opener, folder: Path, photographs: dict[str, Image.Image]
) -> None:
    open_index().update(folder)
    photographs["rocket"].rotate(90).save(folder / "cat" / "1.png")  # another content
    photographs["cat"].save(folder / "cat" / "it's new.png")
    (folder / "page" / "1.png").unlink()
    os.utime(folder / "clock" / "1.png", ns=(1, 1))  # written again, the same content
    embedded: list[int] = []
    index = open_index()
    done = index.update(folder, expect=embedded.append)
    assert embedded == [2]
    assert (done.new, done.changed, done.removed, done.unchanged) == (1, 1, 1, 4)
    assert len(index) == 6
    assert index._store.files()["clock/1.png"].mtime_ns == 1
    assert index.search(folder / "cat" / "1.png", k=1)[0].path == "cat/1.png"
    again = open_index().update(folder)
    assert (again.new, again.changed, again.removed, again.unchanged) == (0, 0, 0, 6)
    (folder / "cat" / "it's new.png").unlink()
    assert open_index().update(folder).removed == 1


def test_unreadable_pictures_are_named_and_leave(open_index: Opener, folder: Path) -> None:
    index = open_index()
    index.update(folder)
    (folder / "cat" / "1.png").write_bytes(b"no picture any more")
    (folder / "new.jpg").write_bytes(b"")
    done = index.update(folder)
    assert (done.new, done.changed, done.removed) == (0, 0, 1)
    assert set(done.unreadable) == {"cat/1.png", "new.jpg"}
    assert "0 bytes" in done.unreadable["new.jpg"]
    assert len(index) == 5


def test_a_killed_update_goes_on_where_it_was(folder: Path, open_index: Opener) -> None:
    index = open_index()
    command = [sys.executable, "-c", _SLOW, str(index.db), MODEL, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline() == "one\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    embedded: list[int] = []
    index = open_index()
    before = len(index)
    done = index.update(folder, expect=embedded.append)
    assert before in (2, 4)
    assert embedded == [6 - before]
    assert (done.new, done.unchanged, len(index)) == (6 - before, before, 6)


def test_an_interrupted_update_keeps_what_was_embedded(open_index: Opener, folder: Path) -> None:
    steps = iter([None, None, KeyboardInterrupt()])

    def advance() -> None:
        if (error := next(steps)) is not None:
            raise error

    with pytest.raises(KeyboardInterrupt) as caught:
        open_index(batch_size=1).update(folder, advance=advance)
    assert caught.value.__notes__ == ["what was embedded is kept: index again to go on"]
    assert len(open_index()) == 3
    assert open_index().update(folder).new == 3


def test_a_folder_that_moved_is_the_same(open_index: Opener, folder: Path, tmp_path: Path) -> None:
    open_index().update(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    assert open_index().update(moved).unchanged == 6
    (tmp_path / "other").mkdir()
    shutil.copy(moved / "cat" / "1.png", tmp_path / "other" / "a.png")
    with pytest.raises(ValueError, match=r"is the index of .*elsewhere, not of .*other; name that folder"):
        open_index().update(tmp_path / "other")
    moved.rename(tmp_path / "unplugged")  # and then the other folder is not it either
    with pytest.raises(ValueError, match=r"is the index of .*elsewhere, not of .*other; name that folder"):
        open_index().update(tmp_path / "other")
    assert len(open_index()) == 6


def test_another_model_is_refused_with_both_names(open_index: Opener, folder: Path, nano: Path) -> None:
    open_index().update(folder)
    with pytest.raises(ValueError, match=r"made by convit_nano_patch4_32.cifar10, but the model is nano.safetensors"):
        open_index(model=None, weights=nano)
    assert len(open_index(model=None)) == 6
    assert open_index(model=None).search(folder / "cat" / "1.png", k=1)[0].label == "cat"


def test_a_model_of_a_folder_is_found_from_another_one(
    open_index: Opener, folder: Path, nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nano.parent.parent)
    open_index(model=f"local-dir:{nano.parent.name}").update(folder)
    monkeypatch.chdir(tmp_path)
    assert open_index(model=None).search(folder / "cat" / "1.png", k=1)[0].label == "cat"


def test_another_image_size_is_refused(open_index: Opener, folder: Path) -> None:
    open_index().update(folder)
    with pytest.raises(ValueError, match="images of 32 x 32 pixels, but img_size is 64 x 64"):
        open_index(img_size=64).search(folder / "cat" / "1.png")


@pytest.mark.parametrize(
    ("option", "value"), [("crop_pct", 0.5), ("apply_exif", False), ("fast_decode", True), ("kind", "pre_logits")]
)
def test_preprocessing_stays(open_index: Opener, folder: Path, option: str, value: object) -> None:
    open_index(**{option: value}).update(folder)
    kept = open_index().identity
    assert kept is not None
    assert (kept.preprocessing[option], kept.preprocessing["interpolation"]) == (value, "bicubic")
    assert len(open_index().search(folder / "cat" / "1.png", k=1)) == 1  # what is not given is as it was
    other = {"crop_pct": 1.0, "apply_exif": True, "fast_decode": False, "kind": "pooled"}[option]
    with pytest.raises(
        ValueError, match=f"was made with {option} {value}, but it is {other} now; leave the option out"
    ):
        open_index(**{option: other}).update(folder)  # where nothing is to be embedded, too


def test_another_precision_is_said_and_kept(
    open_index: Opener, folder: Path, photographs: dict[str, Image.Image], caplog: pytest.LogCaptureFixture
) -> None:
    open_index().update(folder)
    assert len(open_index(precision="bf16").search(folder / "cat" / "1.png", k=1)) == 1
    open_index(precision="bf16").update(folder)  # which embeds nothing
    assert open_index().identity.precisions == ("fp32",)  # type: ignore[union-attr]
    photographs["cat"].rotate(90).save(folder / "new.png")
    open_index(precision="bf16").update(folder)
    assert "was made in fp32, but new images are embedded in bf16: scores move a little" in caplog.text
    assert open_index().identity.precisions == ("fp32", "bf16")  # type: ignore[union-attr]


def test_another_process_may_have_made_the_index_meanwhile(
    open_index: Opener, folder: Path, nano: Path, photographs: dict[str, Image.Image]
) -> None:
    same, unnamed, other = open_index(), open_index(model=None), open_index(model=None, weights=nano)
    assert open_index().update(folder).new == 6
    with pytest.raises(ValueError, match=r"was made by convit_nano_patch4_32.cifar10, but the model is nano"):
        other.update(folder)
    photographs["cat"].rotate(90).save(folder / "new.png")
    assert (same.update(folder).new, len(same)) == (1, 7)
    assert (unnamed.update(folder).unchanged, unnamed.model_name) == (7, MODEL)
    opened = open_index()
    photographs["cat"].rotate(180).save(folder / "newer.png")
    assert len(opened) == 7
    assert open_index().update(folder).new == 1
    assert (opened.update(folder).unchanged, len(opened)) == (8, 8)
    shutil.rmtree(opened.db)
    with pytest.raises(FileNotFoundError, match="has been deleted meanwhile; open it again"):
        opened.update(folder)


def test_a_module_is_known_by_its_parameters(open_index: Opener, folder: Path) -> None:
    config = ConViTConfig(img_size=32, patch_size=8, embed_dim=16, depth=2, local_up_to_layer=1, num_classes=0)
    model = ConViT(config)
    open_index(model=model).update(folder)
    assert len(open_index(model=model).search(folder / "cat" / "1.png", k=3)) == 3
    with pytest.raises(ValueError, match="weights are others"):
        open_index(model=ConViT(config))
    with pytest.raises(ValueError, match="made by a module"):
        open_index(model=None).search(folder / "cat" / "1.png")


def test_a_missing_index(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no index; make one with convit index"):
        Index.open(tmp_path / "nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("")
    with pytest.raises(FileExistsError, match="holds other files and no index"):
        Index.open(tmp_path / "full", create=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        Index.open(tmp_path / "file", create=True)


def test_a_damaged_store_is_said_in_one_line(open_index: Opener, folder: Path) -> None:
    index = open_index()
    index.update(folder)
    for file in (index.db / "images.lance" / "_versions").iterdir():
        file.write_bytes(b"damage")
    with pytest.raises(ValueError, match=r"the store is damaged .* delete the folder and index again") as caught:
        open_index().search(folder / "cat" / "1.png")
    assert "\n" not in str(caught.value)
    (index.db / "index.json").write_text('{"dim": "no"}')
    with pytest.raises(ValueError, match=r"index.json is damaged"):
        open_index()


def test_lost_rows_are_said(open_index: Opener, folder: Path) -> None:
    index = open_index()
    index.update(folder)
    shutil.rmtree(index.db / "images.lance" / "data")
    with pytest.raises(ValueError, match="the store is damaged"):
        open_index().search(folder / "cat" / "1.png")
    shutil.rmtree(index.db / "images.lance")
    with pytest.raises(FileNotFoundError, match="interrupted; run convit index on it again"):
        open_index().search(folder / "cat" / "1.png")
    assert open_index().update(folder).new == 6


def test_two_updates_at_once(open_index: Opener, folder: Path) -> None:
    index = open_index()
    index.db.mkdir()
    with FileLock(index.db / ".lock"), pytest.raises(BlockingIOError, match="another process is indexing"):
        index.update(folder)


def test_folders_without_pictures_change_nothing(open_index: Opener, folder: Path) -> None:
    index = open_index()
    index.update(folder)
    for file in folder.rglob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match="no images found"):
        index.update(folder)
    with pytest.raises(NotADirectoryError, match="is a file"):
        index.update(Path(__file__))
    with pytest.raises(ValueError, match="commit_every is 0"):
        index.update(folder, commit_every=0)
    assert len(index) == 6


def test_only_a_large_index_is_approximate_and_only_without_a_condition(
    open_index: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = open_index(approximate_from=2)
    assert index.update(folder).is_approximate
    asked: list[int] = []

    def approximate(store: Store, query: np.ndarray, k: int) -> Found:
        asked.append(k)
        return search_approximately(store, query, k)

    monkeypatch.setattr("convit.search.index.search_approximately", approximate)
    query = folder / "cat" / "1.png"
    assert [hit.path for hit in index.search(query, k=1)] == ["cat/1.png"]
    assert asked == [1]
    assert [hit.label for hit in index.search(query, k=3, where="label = 'clock'")] == ["clock"]
    assert asked == [1]
    assert len(index.search(query, k=11)) == 6
    assert asked == [1, 11]
    # a file of earlier versions, which measured the index, does no harm
    (index.db / "approximate.json").write_text("{}")
    assert open_index().search(query, k=1)[0].path == "cat/1.png"
    assert asked == [1, 11]


def test_searches_that_cannot_be(open_index: Opener, folder: Path) -> None:
    index = open_index()
    with pytest.raises(FileNotFoundError, match="nothing was indexed yet"):
        index.search(folder / "cat" / "1.png")
    index.update(folder)
    with pytest.raises(ValueError, match="k is 0"):
        index.search(folder / "cat" / "1.png", k=0)
    with pytest.raises(ValueError, match=r"labl = 1.*is not a condition over path, sha256"):
        index.search(folder / "cat" / "1.png", where="labl = 1")
    with pytest.raises(ValueError, match="has 3 values, but"):
        index.search(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="zero or not finite"):
        index.search(np.zeros(index.identity.dim, np.float32))  # type: ignore[union-attr]
    assert index.search(folder / "cat" / "1.png", where="label = 'none'") == []


def test_names_that_are_no_text_are_indexed_and_open_again(
    open_index: Opener, folder: Path, photographs: dict[str, Image.Image]
) -> None:
    for name, image in ((b"caf\xe9.png", "cat"), (b"a\nb.png", "coffee"), (b"file:x.png", "clock")):
        (folder / "odd").mkdir(exist_ok=True)
        photographs[image].rotate(90).save(folder / "odd" / os.fsdecode(name))
    index = open_index()
    assert index.update(folder).unreadable == {}
    assert open_index().update(folder).unchanged == 9
    found = index.search(folder / "odd" / os.fsdecode(b"caf\xe9.png"), k=1, where="label = 'odd'")
    assert [(hit.path, hit.label) for hit in found] == [("file:odd/caf%E9.png", "odd")]
    names = {hit.path for hit in index.search(folder / "cat" / "1.png", k=3, where="label = 'odd'")}
    assert names == {"file:odd/caf%E9.png", "odd/a\nb.png", "odd/file:x.png"}
    (folder / "odd" / os.fsdecode(b"caf\xe9.png")).unlink()
    assert open_index().update(folder).removed == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dim": 0}, "dim: Input should be greater than 0"),
        ({"dim": "16"}, "dim: Input should be a valid integer"),
        ({"image": [32]}, "image: 1: Field required"),
        ({"preprocessing": []}, "preprocessing: Input should be an object"),
        ({"precisions": "fp32"}, "precisions: Input should be a valid array"),
        ({"root": None}, "root: Input should be a valid string"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_what_is_known_of_an_index_has_a_schema(tmp_path: Path, change: dict[str, object], said: str) -> None:
    known: dict[str, object] = {"root": "/x", "name": "n", "model": None, "weights": None, "fingerprint": "sha256:0"}
    known |= {"dim": 16, "image": [32, 32], "preprocessing": {}, "precisions": ["fp32"]}
    (tmp_path / "index.json").write_text(json.dumps(known))
    assert Index.open(tmp_path).model_name == "n"
    for text in (json.dumps(known | change), "[" * 100_000, "\xff"):
        (tmp_path / "index.json").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=r"index.json is damaged \(.*\); delete the folder") as error:
            Index.open(tmp_path)
        assert str(error.value).isprintable()
        assert said in str(error.value) or text[0] != "{"


def test_the_index_of_a_list_follows_it(open_index: Opener, folder: Path, tmp_path: Path) -> None:
    outside = folder / "clock" / "1.png"
    file = tmp_path / "lists" / "labels.csv"
    file.parent.mkdir()

    def update(rows: dict[str, str], source: str | None = None) -> tuple[int, int, int, int, int]:
        file.write_text("image,label\n" + "".join(f"{name},{label}\n" for name, label in rows.items()))
        index = open_index()
        done = index.update(source or list_source(file, folder / "..", allow_outside=True))
        return len(index), done.new, done.changed, done.removed, done.unchanged

    rows = {"pictures/cat/1.png": "animal", "pictures/page/1": "thing", str(outside): "thing"}
    assert update(rows) == (3, 3, 0, 0, 0)
    labels = {hit.path: hit.label for hit in open_index().search(outside)}
    assert labels == {"pictures/cat/1.png": "animal", "pictures/page/1.png": "thing", str(outside): "thing"}
    # paths open from the index's root, also where nothing but the index is at hand
    assert all((open_index().root / path).is_file() for path in labels)
    del rows["pictures/page/1"]
    (folder / "cat" / "1.png").write_bytes(outside.read_bytes())
    assert update(rows | {str(outside): "time"}) == (2, 0, 1, 1, 1)
    assert {hit.path: hit.label for hit in open_index().search(outside)}[str(outside)] == "time"
    (pair,) = open_index().duplicates()
    assert (pair.kind, pair.labels_differ) == ("identical", True)
    assert update({**rows, "pictures/nowhere.png": "x"})[:2] == (2, 0)
    with pytest.raises(ValueError, match=r"is the index of .*labels\.csv, not of .*pictures; name that list"):
        open_index().update(folder)
    with pytest.raises(ValueError, match=r"labels\.csv, not of .*labels\.csv; name that list \(with the same --images"):
        update({"cat/1.png": "animal"}, list_source(file, folder))
    file = file.rename(tmp_path / "moved.csv")
    assert update(rows, list_source(tmp_path / "moved.csv", folder.parent, allow_outside=True)) == (2, 0, 0, 0, 2)


def test_lists_that_cannot_be_indexed_leave_nothing(open_index: Opener, folder: Path) -> None:
    for line, kind, said in (("/etc/hosts", ValueError, "outside"), ("none.png", FileNotFoundError, "none of the 1")):
        (folder / "some.txt").write_text(line)
        with pytest.raises(kind, match=said):
            open_index().update(folder / "some.txt")
    assert not open_index().db.exists()
