"""Neighbors' votes, against a loop that counts them one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from convit.evaluation.probes import Task, nearest
from convit.evaluation.probes.nearest import TEMPERATURE, probe_nearest

CPU = torch.device("cpu")


def _votes(train: np.ndarray, labels: np.ndarray, query: np.ndarray, k: int, without: int | None = None) -> np.ndarray:
    lengths = np.linalg.norm(train.astype(float), axis=1) * np.linalg.norm(query.astype(float))
    similarity = train.astype(float) @ query.astype(float) / lengths
    if without is not None:
        similarity[without] = -np.inf
    votes = np.zeros(labels.max() + 1)
    for place in np.argsort(-similarity)[:k]:
        votes[labels[place]] += np.exp(similarity[place] / TEMPERATURE)
    return votes


def test_every_k_is_as_counted_by_hand(task: Task) -> None:
    score = probe_nearest(task, device=CPU)
    assert [row["k"] for row in score.tried] == [1, 5, 10, 20, 50]  # of 60 images none can have 100 neighbors
    for row in score.tried:
        k = int(row["k"])
        alone = [
            _votes(task.train, task.train_labels, query, k, place).argmax() for place, query in enumerate(task.train)
        ]
        assert row["validation_top1"] == pytest.approx(100 * np.mean(np.array(alone) == task.train_labels))
        tested = np.array([_votes(task.train, task.train_labels, query, k).argmax() for query in task.test])
        assert row["test_top1"] == pytest.approx(100 * np.mean(tested == task.test_labels))


def test_k_is_chosen_on_training_images(task: Task) -> None:
    score = probe_nearest(task, device=CPU)
    best = max(row["validation_top1"] for row in score.tried)
    assert score.chosen == min(row["k"] for row in score.tried if row["validation_top1"] == best)
    chosen = next(row for row in score.tried if row["k"] == score.chosen)
    assert (score.top1, score.top5) == (chosen["test_top1"], chosen["test_top5"])
    assert score.top1_low < score.top1 < score.top1_high
    assert "60 of the 60 training images" in score.chosen_by


def test_a_class_without_a_vote_is_not_among_the_first_five() -> None:
    """Six classes at right angles, one test vector of each between two of them: with k=1 one class alone is heard."""
    train = np.eye(6, dtype=np.float32)
    test = (0.9 * np.eye(6) + 1.0 * np.roll(np.eye(6), 1, axis=1)).astype(np.float32)
    task = Task(train, np.arange(6), test, np.arange(6), tuple("abcdef"))
    rows = {row["k"]: row for row in probe_nearest(task, device=CPU).tried}
    assert (rows[1]["test_top1"], rows[1]["test_top5"]) == (0.0, 0.0)
    assert (rows[5]["test_top1"], rows[5]["test_top5"]) == (0.0, 100.0)


def test_a_vector_of_zeros_breaks_nothing(task: Task) -> None:
    task.train[3] = 0
    score = probe_nearest(task, device=CPU)
    assert 50 < score.top1 <= 100


def test_vectors_on_disk_are_made_units_a_part_at_a_time(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(nearest.CHUNK + 3, 2)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    found = nearest._units(np.load(tmp_path / "vectors.npy", mmap_mode="r"), CPU)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
