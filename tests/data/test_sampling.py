from collections import Counter

import pytest
import torch
from torch.utils.data import TensorDataset

from convit.data.sampling import EpochSampler, ResumableLoader, augmentation_seed


def test_an_epoch_is_a_permutation_that_seed_and_epoch_fix() -> None:
    sampler = EpochSampler(20, seed=3, batch_size=4)
    first = list(sampler)
    assert sorted(index for index, _ in first) == list(range(20))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert [index for index, _ in sampler] != [index for index, _ in first]


def test_processes_share_the_global_batches_of_one_process() -> None:
    alone = list(EpochSampler(26, seed=0, batch_size=6))
    shares = [list(EpochSampler(26, seed=0, batch_size=3, rank=rank, world_size=2)) for rank in range(2)]
    assert len(alone) == 24
    for batch in range(4):
        together = [key for share in shares for key in share[3 * batch : 3 * batch + 3]]
        assert sorted(together) == sorted(alone[6 * batch : 6 * batch + 6])


def test_repeated_augmentation_repeats_images_under_other_seeds() -> None:
    keys = list(EpochSampler(30, seed=0, batch_size=5, repeats=3))
    assert Counter(Counter(index for index, _ in keys).values()) == {3: 10}
    assert len({seed for _, seed in keys}) == 30


def test_batches_are_a_multiple_of_what_is_accumulated() -> None:
    assert EpochSampler(30, seed=0, batch_size=4, accumulate=3).batches == 6


def test_too_few_images_for_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="3 training images do not fill one batch of 4"):
        EpochSampler(3, seed=0, batch_size=4)


def test_seeds_differ_wherever_their_parts_differ() -> None:
    seeds = {augmentation_seed(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


class _Keys(TensorDataset):
    def __getitem__(self, key: tuple[int, int]) -> int:  # type: ignore[override]
        return key[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_its_state_was_taken(workers: int) -> None:
    def loader() -> ResumableLoader:
        return ResumableLoader(
            _Keys(torch.zeros(24)), batch_size=4, sampler=EpochSampler(24, seed=0, batch_size=4), num_workers=workers
        )

    whole = [batch.tolist() for batch in loader()]
    first, second = loader(), loader()
    batches = iter(first)
    begun = [next(batches).tolist() for _ in range(2)]
    second.load_state_dict(first.state_dict())
    assert begun + [batch.tolist() for batch in second] == whole
    ended = first.state_dict() | {"batches": 6}
    second.load_state_dict(ended)
    assert (second.state_dict()["epoch"], len(list(second))) == (1, 6)
