"""Linear classifiers of vectors, and the scaling in which they are fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from convit.evaluation.probes.scores import rank_right

CHUNK = 8192  # rows that are computed at a time


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and standard deviation of each feature; 1 for a feature that is the same everywhere.

    Attributes:
        mean: to subtract.
        spread: to divide by.
    """

    mean: Float64[Tensor, " dim"]
    spread: Float64[Tensor, " dim"]

    @classmethod
    def of(cls, vectors: Float32[np.ndarray, "rows dim"]) -> Scaling:
        """Find them, summed in double precision."""
        total = sum(chunk.sum(0, dtype=torch.float64) for chunk in chunks(vectors))
        mean = torch.as_tensor(total) / len(vectors)
        squares = sum((chunk.double() - mean).square().sum(0) for chunk in chunks(vectors))
        spread = (torch.as_tensor(squares) / len(vectors)).sqrt()
        # a feature that only rounding moves would be blown up to noise
        return cls(mean, spread.where(spread > 1e-6 * mean.abs().clamp(min=1e-6), torch.ones_like(spread)))

    def apply(self, vectors: Float32[np.ndarray, "rows dim"], device: torch.device) -> Float32[Tensor, "rows dim"]:
        """The vectors with mean 0 and standard deviation 1 in each feature, on the device."""
        scaled = torch.empty(vectors.shape, dtype=torch.float32)
        for place, chunk in zip(scaled.split(CHUNK), chunks(vectors), strict=True):
            place.copy_((chunk - self.mean) / self.spread)
        return scaled.to(device)


@dataclass(frozen=True, eq=False)
class Linear:
    """A score per class: `weight @ scaled vector + bias`.

    Attributes:
        weight: of scaled vectors.
        bias: of each class.
    """

    weight: Float[Tensor, "classes dim"]
    bias: Float[Tensor, " classes"]

    def ranks(
        self, scaled: Float32[Tensor, "rows dim"], labels: Int64[np.ndarray, " rows"]
    ) -> Int64[np.ndarray, " rows"]:
        """How many classes have a higher score than the right one, per row."""
        weight, bias = self.weight.float().to(scaled.device), self.bias.float().to(scaled.device)
        right = torch.from_numpy(labels).to(scaled.device)
        found = [
            rank_right(torch.addmm(bias, rows, weight.T), of_rows)
            for rows, of_rows in zip(scaled.split(CHUNK), right.split(CHUNK), strict=True)
        ]
        return torch.cat(found).cpu().numpy()

    def ranks_of(
        self, vectors: Float32[np.ndarray, "rows dim"], labels: Int64[np.ndarray, " rows"], scaling: Scaling
    ) -> Int64[np.ndarray, " rows"]:
        """The same of vectors that are still to be scaled, a part at a time."""
        device = self.weight.device
        return np.concatenate(
            [
                self.ranks(scaling.apply(vectors[begin : begin + CHUNK], device), labels[begin : begin + CHUNK])
                for begin in range(0, len(vectors), CHUNK)
            ]
        )


def chunks(vectors: Float32[np.ndarray, "rows dim"]) -> Iterator[Float32[Tensor, "rows dim"]]:
    """Rows as tensors, a part at a time; vectors on disk are read as they are needed."""
    for begin in range(0, len(vectors), CHUNK):
        yield torch.from_numpy(np.array(vectors[begin : begin + CHUNK], dtype=np.float32))
