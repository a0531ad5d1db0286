import json
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from convit.data import CorruptImages, ImageDataset, TooManyCorruptError, open_dataset
from convit.data.datasets import DecodedSamples
from convit.data.sampling import ResumableLoader, plain_worker_errors
from convit.data.streams import ShardSequence, ShardStream, StreamSource
from tests.data.making import encoded, picture, write_samples


def _shard(path: Path, numbers: Sequence[int], broken: Sequence[int], classes: int = 2) -> Path:
    images = {number: b"broken" if number in broken else encoded(picture(number)) for number in numbers}
    return write_samples(path, ((f"s{number:02d}.png", image, number % classes) for number, image in images.items()))


def _which(image: object) -> int:
    """The number of a picture: `_shard` writes those below 40."""
    pixels = np.asarray(image)
    return next(number for number in range(40) if np.array_equal(pixels, np.asarray(picture(number))))


def _seen(image: Image.Image) -> tuple[int, float]:
    return _which(image), float(torch.rand(()))


def test_the_file_names_each_image_once(tmp_path: Path) -> None:
    corrupt = CorruptImages(tmp_path / "run/corrupt.jsonl", limit=2)
    assert len(corrupt.reasons()) == 0
    for name in ("a", "b", "a"):
        corrupt.report(name, ValueError(f"{name} is broken"))
    CorruptImages(corrupt.path, limit=2).report("a", "said by another process")
    rows = [json.loads(line) for line in corrupt.path.read_text().splitlines()]
    assert rows == [{"name": "a", "reason": "a is broken"}, {"name": "b", "reason": "b is broken"}]
    assert len(corrupt.reasons()) == 2


@pytest.mark.parametrize(
    "name", ["two\u2028lines", "next\x85line", "form\x0cfeed", "caf\udce9", "two\nlines", "caf\xe9"]
)
def test_whatever_an_image_is_called_it_is_counted_once(tmp_path: Path, name: str) -> None:
    corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=1)
    for _ in range(2):
        CorruptImages(corrupt.path, limit=1).report(name, f"{name} is broken")
    assert corrupt.reasons() == {name: f"{name} is broken"}


def test_one_more_than_the_limit_stops_with_the_remedy(tmp_path: Path) -> None:
    corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=1)
    corrupt.report("a", "cut off")
    with pytest.raises(
        TooManyCorruptError, match=r"^2 images .* limit is 1; .*corrupt\.jsonl, .*: cut off; .*data\.corr"
    ):
        corrupt.report("b", "no image")
    with pytest.raises(TooManyCorruptError, match="1 images cannot be read, and the limit is 0"):
        CorruptImages(tmp_path / "none.jsonl", limit=0).report("a", "cut off")
    with pytest.raises(ValueError, match="limit of corrupt images is -1"):
        CorruptImages(tmp_path / "none.jsonl", limit=-1)


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "corrupt.jsonl"
    path.write_text('{"name": "a", "reason": "x"}\n{"name": "b", "rea')
    assert CorruptImages(path, limit=5).reasons() == {"a": "x"}
    corrupt = CorruptImages(path, limit=5)
    corrupt.report("c", "z")
    assert list(corrupt.reasons()) == ["a", "c"]


def _report_many(path: Path, process: int) -> None:
    corrupt = CorruptImages(path, limit=1000)
    for number in range(50):
        corrupt.report(f"{number * (1 + process)}", "x" * 500)


def test_processes_share_the_file(tmp_path: Path) -> None:
    path = tmp_path / "corrupt.jsonl"
    processes = [get_context("fork").Process(target=_report_many, args=(path, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    names = {str(number) for number in range(50)} | {str(2 * number) for number in range(50)}
    assert set(CorruptImages(path, limit=0).reasons()) == names
    assert all(json.loads(line)["reason"] == "x" * 500 for line in path.read_text().splitlines())


def test_another_image_of_the_class_stands_in(tmp_path: Path) -> None:
    shard = _shard(tmp_path / "x.tar", range(10), broken=[4, 6, 9])
    corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=3)
    dataset = ImageDataset(open_dataset(shard).samples, _seen, corrupt=corrupt)
    for index, expected in ((4, 8), (6, 8), (9, 1), (5, 5), (-4, 8)):
        (number, draw), label = dataset[(index, 7)]
        assert (number, label) == (expected, expected % 2)
        assert draw == dataset[(expected, 7)][0][1]
    assert list(corrupt.reasons()) == ["s04", "s06", "s09"]
    assert "s04: is text, not an image" in corrupt.reasons()["s04"]
    with pytest.raises(ValueError, match="s04: is text, not an image"):
        open_dataset(shard)[4]


def test_none_is_taken_from_the_other_part_of_the_data(tmp_path: Path) -> None:
    samples = open_dataset(_shard(tmp_path / "x.tar", range(8), broken=[4])).samples
    corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=1)
    assert ImageDataset(samples, _which, indices=[4, 5, 2], corrupt=corrupt)[0] == (2, 0)
    lonely = ImageDataset(samples, _which, indices=[4, 5], classes=["even", "odd"], corrupt=corrupt)
    with pytest.raises(ValueError, match=r"the class 'even' has no readable image \(all 1 are named in"):
        lonely[0]


def test_decoding_once_treats_them_alike(tmp_path: Path) -> None:
    samples = open_dataset(_shard(tmp_path / "x.tar", range(8), broken=[0, 3])).samples
    with pytest.raises(ValueError, match="s00: is text, not an image"):
        DecodedSamples(samples)
    with pytest.raises(TooManyCorruptError):
        DecodedSamples(samples, corrupt=CorruptImages(tmp_path / "few.jsonl", limit=1))
    corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=2)
    decoded = DecodedSamples(samples, corrupt=corrupt)
    assert list(corrupt.reasons()) == ["s00", "s03"]
    kept = ImageDataset(decoded, _which, corrupt=corrupt)
    each = ImageDataset(samples, _which, corrupt=corrupt)
    assert [kept[index] for index in range(8)] == [each[index] for index in range(8)]
    with pytest.raises(ValueError, match="s03: is text, not an image"):
        decoded.image(3)


def test_worker_processes_stop_together_at_the_limit(tmp_path: Path) -> None:
    shard = _shard(tmp_path / "x.tar", range(12), broken=range(2, 10))
    corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=8)
    dataset = ImageDataset(open_dataset(shard).samples, _which, corrupt=corrupt)
    numbers = [number for batch, _ in DataLoader(dataset, 2, num_workers=2) for number in batch.tolist()]
    assert numbers == [0, 1, *([10, 11] * 5)]
    assert len(corrupt.reasons()) == 8
    dataset.corrupt = CorruptImages(tmp_path / "few.jsonl", limit=3)
    expected = r"^\d images cannot be read, and the limit is 3; [^\n]*$"
    with pytest.raises(TooManyCorruptError, match=expected), plain_worker_errors():
        list(DataLoader(dataset, 2, num_workers=2))


@pytest.fixture
def broken_shards(tmp_path: Path) -> list[Path]:
    broken = [1, 2, 8, 13, 23]
    return [_shard(tmp_path / f"{shard}.tar", range(6 * shard, 6 * shard + 6), broken) for shard in range(4)]


def _batches(loader: ResumableLoader) -> list[tuple[list[int], list[float], list[int]]]:
    return [(numbers.tolist(), draws.tolist(), labels.tolist()) for (numbers, draws), labels in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_with_broken_images_is_taken_up_exactly(
    broken_shards: list[Path], tmp_path: Path, workers: int
) -> None:
    def loader() -> ResumableLoader:
        corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=5)
        stream = ShardStream(
            StreamSource(broken_shards, _seen, classes=2, corrupt=corrupt), batch_size=2, seed=0, buffer=3
        )
        return ResumableLoader(stream, batches=12, workers=workers)

    whole = _batches(loader())
    numbers = [number for batch, _, _ in whole for number in batch]
    assert len(whole) == 12
    assert set(numbers) == set(range(24)) - {1, 2, 8, 13, 23}
    assert all(label == number % 2 for batch, _, labels in whole for number, label in zip(batch, labels, strict=True))
    for done in range(1, 12, 1 if workers == 0 else 3):
        resumed = loader()
        resumed.load_state_dict({"epoch": 0, "batches": done})
        assert _batches(resumed) == whole[done:]
    assert set(CorruptImages(tmp_path / "corrupt.jsonl", 5).reasons()) == {"s01", "s02", "s08", "s13", "s23"}


def test_a_stream_stops_at_the_limit_and_where_nothing_is_readable(broken_shards: list[Path], tmp_path: Path) -> None:
    def read(shards: list[Path], corrupt: CorruptImages | None) -> None:
        stream = ShardStream(StreamSource(shards, _seen, corrupt=corrupt), batch_size=2, seed=0, buffer=3)
        list(ResumableLoader(stream, batches=12, workers=0))

    with pytest.raises(TooManyCorruptError, match="5 images cannot be read, and the limit is 4"):
        read(broken_shards, CorruptImages(tmp_path / "few.jsonl", limit=4))
    with pytest.raises(ValueError, match="is text, not an image"):
        read(broken_shards, None)
    hopeless = _shard(tmp_path / "hopeless.tar", range(2), broken=range(2))
    with pytest.raises(ValueError, match=r"has no readable image \(such as 's0\d'\); lower data\.workers or remove"):
        read([hopeless], CorruptImages(tmp_path / "corrupt.jsonl", limit=2))


def test_a_sequence_leaves_them_out(broken_shards: list[Path], tmp_path: Path) -> None:
    corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=5)
    sequence = ShardSequence(StreamSource(broken_shards, _which, classes=2, corrupt=corrupt))
    assert list(sequence) == [(number, number % 2) for number in range(24) if number not in (1, 2, 8, 13, 23)]
    assert len(corrupt.reasons()) == 5
    with pytest.raises(ValueError, match="s01: is text, not an image"):
        list(ShardSequence(StreamSource(broken_shards, _which)))


@pytest.mark.parametrize(("kind", "suffix"), [("AVIF", "avif"), ("TIFF", "tif"), ("WEBP", "webp")])
def test_a_damaged_file_of_any_format_is_counted(tmp_path: Path, kind: str, suffix: str) -> None:
    for number in range(4):
        (tmp_path / "data" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / str(number % 2) / f"{number}.png").write_bytes(encoded(picture(number)))
    whole = encoded(picture(0, 64), kind)
    broken = tmp_path / "data" / "0" / f"broken.{suffix}"
    broken.write_bytes(whole[: len(whole) * 2 // 3])
    samples = open_dataset(tmp_path / "data").samples
    corrupt = CorruptImages(tmp_path / "corrupt.jsonl", limit=1)
    dataset = ImageDataset(samples, transform=np.array, corrupt=corrupt)
    with plain_worker_errors():
        assert len(list(DataLoader(dataset, batch_size=None, num_workers=1))) == 5
    assert list(corrupt.reasons()) == [str(broken)]
