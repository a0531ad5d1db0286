from collections import Counter

import pytest
import torch
from torch.utils.data import TensorDataset

from convit.data.sampling import EpochSampler, ResumableLoader, StepSharding, augmentation_seed


def test_an_epoch_is_a_permutation_that_seed_and_epoch_fix() -> None:
    sampler = EpochSampler(20, seed=3, sharding=StepSharding(4))
    first = list(sampler)
    assert sorted(index for index, _ in first) == list(range(20))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert [index for index, _ in sampler] != [index for index, _ in first]


@pytest.mark.parametrize(("parts", "world_size"), [(1, 2), (2, 1), (2, 3)])
def test_processes_and_parts_share_the_steps_of_one_process_in_whole_pairs(parts: int, world_size: int) -> None:
    alone = list(EpochSampler(62, seed=0, sharding=StepSharding(24)))
    shares = [
        list(EpochSampler(62, seed=0, sharding=StepSharding(24, parts, rank, world_size))) for rank in range(world_size)
    ]
    assert len(alone) == 48
    own = 24 // world_size
    pairs = set(zip(alone[::2], alone[1::2], strict=True))
    for share in shares:
        assert set(zip(share[::2], share[1::2], strict=True)) <= pairs
    for step in range(2):
        together = [key for share in shares for key in share[own * step : own * (step + 1)]]
        assert sorted(together) == sorted(alone[24 * step : 24 * step + 24])


def test_positions_say_where_dealt_images_stand_in_the_step() -> None:
    step = torch.arange(100, 124)
    for rank in range(2):
        sharding = StepSharding(24, parts=3, rank=rank, world_size=2)
        dealt = sharding.deal(step[None]).view(3, -1)
        for part in range(3):
            assert torch.equal(dealt[part], step[sharding.positions(part)])


def test_a_step_that_cannot_be_shared_in_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"run.batch_size is 6, which 2 processes .* choose a multiple of 4"):
        StepSharding(6, world_size=2)


def test_repeated_augmentation_repeats_images_under_other_seeds() -> None:
    keys = list(EpochSampler(30, seed=0, sharding=StepSharding(15), repeats=3))
    assert Counter(Counter(index for index, _ in keys).values()) == {3: 10}
    assert len({seed for _, seed in keys}) == 30
    neighbors = sum(first[0] == second[0] for first, second in zip(keys[::2], keys[1::2], strict=True))
    assert neighbors < 8  # the few that chance makes partners in mixing; side by side it would be all 15 or 10


def test_balanced_sampling_draws_every_class_equally_often() -> None:
    labels = [0] * 40 + [1] * 15 + [2] * 5
    keys = list(EpochSampler(60, seed=0, sharding=StepSharding(60), balance=labels))
    assert Counter(labels[index] for index, _ in keys) == {0: 20, 1: 20, 2: 20}
    assert len(set(keys)) == 60  # an image that comes again comes under another seed
    assert Counter(index for index, _ in keys if labels[index] == 2) == dict.fromkeys(range(55, 60), 4)


def test_too_few_images_for_a_step_are_refused() -> None:
    with pytest.raises(ValueError, match="3 training images do not fill one step of 4"):
        EpochSampler(3, seed=0, sharding=StepSharding(4))


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
            _Keys(torch.zeros(24)), EpochSampler(24, seed=0, sharding=StepSharding(4)), workers=workers
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
