"""Results of runs that never ran, for tables and figures."""

from collections.abc import Sequence

from studies.results import Result, Scores


def result(model: str, column: str, seed: int, top1: float) -> Result:
    return Result(
        model=model,
        column=column,
        share=float(column.removesuffix(" %")) / 100 if column.endswith("%") else 0.5,
        seed=seed,
        epochs=20,
        top1=top1,
        test_images=8000,
        train_images=2500,
        seconds=10.0,
        params=310_000,
        test="test.tar",
        recipe=f"{model} {column} {seed}",
    )


def scores(**rows: dict[str, Sequence[float]]) -> Scores:
    """Scores of rows (underscores are spaces): column → top-1 of seeds 0, 1 …"""
    return Scores(
        result(row.replace("_", " "), column, seed, value)
        for row, columns in rows.items()
        for column, values in columns.items()
        for seed, value in enumerate(values)
    )
