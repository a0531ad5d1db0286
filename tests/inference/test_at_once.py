"""Several batches computed at a time, each on its share of the cores."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import numpy as np
import pytest
import torch

from convit import Classifier, Embedder
from convit.inference.predicting import Row, Stopwatch, compute_batches
from convit.model import ConViT, ConViTConfig
from convit.optimization import building, optimize
from convit.optimization.products import MklProduct

CONFIG = ConViTConfig(img_size=32, patch_size=8, embed_dim=16, depth=2, local_up_to_layer=1, num_classes=5)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _images(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 40, 40, 3), dtype=np.uint8))


@pytest.mark.usefixtures("two_threads")
def test_rows_are_those_of_one_batch_at_a_time() -> None:
    fast = optimize(ConViT(CONFIG).eval(), "fp32")
    embedder = Embedder(fast, batch_size=4, workers=2)
    assert embedder._runner.at_once == 2
    images = _images(23)
    found = list(embedder.iterate(iter([*images[:10], b"no image", *images[10:]])))
    assert "not an image" in str(found[10].error)
    vectors = np.stack([row.values for row in found if row.error is None])
    torch.set_num_threads(1)
    assert embedder._runner.at_once == 1
    np.testing.assert_allclose(vectors, embedder(images), atol=1e-5)


@pytest.mark.usefixtures("two_threads")
def test_the_number_of_threads_is_as_before_also_after_half_a_run() -> None:
    classifier = Classifier(optimize(ConViT(CONFIG).eval(), "fp32"), batch_size=2)
    results = classifier.iterate(_images(30))
    next(results)
    results.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


@pytest.mark.usefixtures("two_threads")
def test_one_at_a_time_where_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ConViT(CONFIG).eval()
    assert Classifier(model)._runner.at_once == 1  # somebody's module, which threads may not share
    monkeypatch.setattr(building, "fastest_product", lambda device, dtype: MklProduct)
    classifier = Classifier(optimize(model, "fp32"))
    assert classifier._runner.at_once == 2
    hook = classifier.model.blocks[0].register_forward_hook(lambda *_: None)
    assert classifier._runner.at_once == 1
    hook.remove()
    assert classifier._runner.at_once == 2
    classifier.keep_steady()
    assert classifier._runner.at_once == 1


def test_batches_come_in_order_and_errors_at_their_turn() -> None:
    def compute(batch: list[Row]) -> None:
        sleep(0.05 if batch[0].tag == 0 else 0)
        if batch[0].tag == 3:
            raise MemoryError("full")

    batches = iter([[Row(number, "")] for number in range(5)])
    with ThreadPoolExecutor(2) as pool:
        found = compute_batches(batches, compute, Stopwatch(), pool, 2)
        assert [next(found)[0].tag for _ in range(3)] == [0, 1, 2]
        with pytest.raises(MemoryError, match="full"):
            next(found)


def test_waiting_is_the_time_in_which_nothing_is_computed() -> None:
    def slow() -> Iterator[list[Row]]:
        for number in range(3):
            sleep(0.05)
            yield [Row(number, "")]

    waited = Stopwatch()
    with ThreadPoolExecutor(1) as pool:
        list(compute_batches(slow(), lambda _: sleep(0.3), waited, pool, 1))
    assert 0.04 < waited.seconds < 0.1
