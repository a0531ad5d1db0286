"""Results as plain rows, the same for every format."""

from typing import Any

import numpy as np

from convit.output.results import Classification, Embedding

Result = Classification | Embedding


def as_json(result: Result) -> dict[str, Any]:
    """Give a result as an object for JSON: path, then `predictions` (a list) or `embedding`, then error."""
    row: dict[str, Any] = {"path": result.path}
    if isinstance(result, Classification):
        row["predictions"] = [
            {"label": found.label, "index": found.index, "score": shorten(found.score)} for found in result.predictions
        ]
    else:
        row["embedding"] = None if result.values is None else _shorten_all(result.values)
    return {**row, "error": result.error}


def classification_columns(top_k: int) -> list[str]:
    """Name the columns of flat rows: path, then label, index and score for each rank from 1, then error.

    >>> classification_columns(1)
    ['path', 'label_1', 'index_1', 'score_1', 'error']
    """
    ranks = [f"{part}_{rank}" for rank in range(1, top_k + 1) for part in ("label", "index", "score")]
    return ["path", *ranks, "error"]


def as_flat_row(result: Classification, top_k: int) -> list[Any]:
    """Give a classification as values for `classification_columns`; `None` where there is nothing."""
    values: list[Any] = [result.path]
    for found in result.predictions[:top_k]:
        values += [found.label, found.index, shorten(found.score)]
    return [*values, *[None] * (3 * top_k + 1 - len(values)), result.error]


def shorten(number: float) -> float:
    """Give the shortest decimal that is the same float32.

    >>> shorten(float(np.float32(0.1)))
    0.1
    """
    return float(str(np.float32(number)))


def _shorten_all(values: np.ndarray) -> Any:
    return values.astype(np.float32).astype(str).astype(np.float64).tolist()
