from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convit.data.sampling import ResumableLoader
from convit.data.streams import ShardSequence, ShardStream, StreamSource
from tests.data.making import write_shard


def _fingerprint(image: Image.Image) -> tuple[int, float]:
    return int(np.asarray(image, dtype=np.int64).sum()), float(torch.rand(()))


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return [write_shard(tmp_path / f"{shard}.tar", range(6 * shard, 6 * shard + 6)) for shard in range(4)]


def _loader(shards: list[Path], workers: int = 0, rank: int = 0, world_size: int = 1) -> ResumableLoader:
    stream = ShardStream(
        StreamSource(shards, _fingerprint), batch_size=3, seed=0, buffer=5, rank=rank, world_size=world_size
    )
    return ResumableLoader(stream, batches=8 // world_size, workers=workers)


def _flat(loader: ResumableLoader) -> list[tuple[int, float]]:
    return [pair for (sums, draws), _ in loader for pair in zip(sums.tolist(), draws.tolist(), strict=True)]


def test_an_epoch_holds_every_sample_once_shuffled_and_seeded(shards: list[Path]) -> None:
    order = [sums for (sums, _), _ in ShardSequence(StreamSource(shards, _fingerprint))]
    loader = _loader(shards)
    first = _flat(loader)
    assert len(loader) == 8
    assert sorted(sums for sums, _ in first) == sorted(order)
    assert [sums for sums, _ in first] != order
    assert _flat(loader) == first
    loader.sampler.set_epoch(1)
    assert _flat(loader) != first


def test_processes_read_different_shards(shards: list[Path]) -> None:
    both = [_flat(_loader(shards, rank=rank, world_size=2)) for rank in range(2)]
    assert max(Counter(sums for share in both for sums, _ in share).values()) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_goes_on_where_its_state_was_taken(shards: list[Path], workers: int) -> None:
    whole = [batch[0][0].tolist() for batch in _loader(shards, workers)]
    first, second = _loader(shards, workers), _loader(shards, workers)
    batches = iter(first)
    begun = [next(batches)[0][0].tolist() for _ in range(3)]
    second.load_state_dict(first.state_dict())
    assert begun + [batch[0][0].tolist() for batch in second] == whole


def test_workers_share_a_single_shard(shards: list[Path]) -> None:
    loader = ResumableLoader(
        ShardStream(StreamSource(shards[:1], _fingerprint), batch_size=1, seed=0, buffer=2), batches=6, workers=2
    )
    assert len({sums for sums, _ in _flat(loader)}) == 6


def test_fewer_shards_than_processes_are_refused(shards: list[Path]) -> None:
    with pytest.raises(ValueError, match="1 shards cannot be dealt to 2 processes"):
        ShardStream(StreamSource(shards[:1], _fingerprint), batch_size=1, seed=0, buffer=1, world_size=2)
