"""Schedule, mixing, class weights and averaging, each against what it should be by hand."""

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from convit.output.text import epoch_score
from convit.training.final_weights import MovingAverage
from convit.training.mixing import mix, soft_targets
from convit.training.optimizers import peak_rate, rate_at
from convit.training.recipe import MixingRecipe, OptimizerRecipe, ScheduleRecipe
from convit.training.task import weigh_classes


def test_the_rate_warms_up_falls_as_a_cosine_and_stays() -> None:
    schedule = ScheduleRecipe(epochs=10, warmup_epochs=2, warmup_lr=0.0, min_lr=0.1, cooldown_epochs=1)
    rates = [rate_at(step, 5, schedule, 1.0) for step in range(55)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[30] == pytest.approx(0.55)
    assert np.all(np.diff(rates[10:50]) < 0)
    assert rates[50:] == [0.1] * 5


def test_a_constant_rate_falls_linearly_at_the_end_and_is_the_same_before_it_in_a_longer_run() -> None:
    schedule = ScheduleRecipe(epochs=10, warmup_epochs=2, min_lr=0.0, decay_epochs=4, cooldown_epochs=0)
    rates = [rate_at(step, 5, schedule, 1.0) for step in range(51)]
    assert rates[10:31] == [1.0] * 21
    assert rates[31:] == pytest.approx([left / 20 for left in range(19, -1, -1)])
    longer = schedule.model_copy(update={"epochs": 30})
    assert [rate_at(step, 5, longer, 1.0) for step in range(31)] == rates[:31]


def test_a_warm_up_ends_with_the_epochs_and_a_decay_begins_after_it() -> None:
    long = ScheduleRecipe(epochs=2, warmup_epochs=5, warmup_lr=0.0, min_lr=0.1, cooldown_epochs=4)
    rates = [rate_at(step, 5, long, 1.0) for step in range(30)]
    assert rates == pytest.approx([0.04 * step for step in range(1, 11)] + [0.1] * 20)
    early = ScheduleRecipe(epochs=10, warmup_epochs=2, min_lr=0.0, decay_epochs=10)
    rates = [rate_at(step, 5, early, 1.0) for step in range(10, 50)]
    assert rates == pytest.approx([left / 40 for left in range(40, 0, -1)])


def test_the_peak_grows_with_the_batch() -> None:
    assert peak_rate(OptimizerRecipe(lr=5e-4), 1024) == pytest.approx(1e-3)


def test_soft_targets_sum_to_one() -> None:
    targets = soft_targets(torch.tensor([1]), 4, 0.1)
    assert targets.tolist() == [pytest.approx([0.025, 0.925, 0.025, 0.025])]


@pytest.mark.parametrize("recipe", [MixingRecipe(mixup=0.8), MixingRecipe(cutmix=1.0)])
def test_targets_are_mixed_as_pixels_are(recipe: MixingRecipe) -> None:
    images = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    targets = torch.eye(2)
    for seed in range(20):
        mixed, soft = mix(images, targets, recipe, np.random.default_rng(seed))
        assert torch.allclose(mixed.mean(dim=(1, 2, 3)), soft[:, 1], atol=1e-6)
        if recipe.cutmix:
            assert set(mixed.unique().tolist()) <= {0.0, 1.0}


def test_mixing_can_be_off() -> None:
    images, targets = torch.rand(2, 3, 4, 4), torch.eye(2)
    for recipe in (MixingRecipe(), MixingRecipe(mixup=1.0, probability=0.0)):
        assert mix(images, targets, recipe, np.random.default_rng(0)) == (images, targets)


class _Clock:
    global_step = 0


def test_the_average_follows_with_warm_up_and_is_swapped_in_and_out() -> None:
    module, averaging, clock = LightningModule(), MovingAverage(0.5), _Clock()
    module.model = nn.Linear(1, 1, bias=False)
    weight = module.model.weight
    averaging.setup(clock, module, "fit")  # type: ignore[arg-type]
    nn.init.ones_(weight)
    expected = 1.0
    for step in range(1, 12):
        clock.global_step = step
        nn.init.constant_(weight, step)
        averaging.on_train_batch_end(clock, module, None, None, 0)  # type: ignore[arg-type]
        averaging.on_train_batch_end(clock, module, None, None, 0)  # type: ignore[arg-type]  # a batch without a step
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    averaging.on_validation_epoch_start(clock, module)  # type: ignore[arg-type]
    averaging.on_validation_epoch_end(clock, module)  # type: ignore[arg-type]
    assert weight.item() == pytest.approx(expected)  # still, for `BestWeights`
    averaging.on_validation_end(clock, module)  # type: ignore[arg-type]
    assert weight.item() == 11.0
    averaging.on_train_end(clock, module)  # type: ignore[arg-type]
    assert weight.item() == pytest.approx(expected)


def test_epochs_rank_by_top1_then_by_loss_then_the_later_first() -> None:
    epochs = [(50.0, 1.0, 1), (50.0, 0.9, 2), (50.0, 0.9, 3), (49.0, 0.1, 4), (None, None, 5), (50.0, float("nan"), 6)]
    lines = [{"val_top1": top1, "val_loss": loss, "epoch": epoch} for top1, loss, epoch in epochs]
    assert [line["epoch"] for line in sorted(lines, key=epoch_score)] == [5, 4, 6, 1, 2, 3]


def test_class_weights_have_mean_one_over_the_images() -> None:
    labels = [0] * 6 + [1] * 3 + [2] * 3
    balanced = weigh_classes("balanced", labels, 3)
    assert balanced is not None
    assert balanced[labels].mean().item() == pytest.approx(1.0)
    assert (balanced[1] / balanced[0]).item() == pytest.approx(2.0)
    given = weigh_classes([1.0, 2.0, 3.0], labels, 3)
    assert given is not None
    assert (given / given[0]).tolist() == pytest.approx([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="2 weights, but there are 3 classes"):
        weigh_classes([1.0, 2.0], labels, 3)
