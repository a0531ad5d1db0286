"""The kept figures of the bundled model are of the weights that ship."""

import hashlib
import json
import math
from pathlib import Path

from convit.analysis import gates
from convit.analysis.ablations import to_markdown
from convit.analysis.explaining import load_plain
from convit.weights.weight_sets import BUNDLED_FOLDER

DOCS = Path(__file__).parents[2] / "docs" / "analysis"


def test_they_belong_to_the_weights_that_ship() -> None:
    ablation = json.loads((DOCS / "ablation.json").read_text())
    attention = json.loads((DOCS / "attention.json").read_text())
    weights = BUNDLED_FOLDER / ablation["baseline"]["weights"]
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == ablation["baseline"]["weights_sha256"]
    shipped = gates(load_plain(attention["model"], device="cpu")).flatten().tolist()
    kept = [gate for heads in attention["gates"] for gate in heads]
    assert all(math.isclose(*pair, abs_tol=1e-4) for pair in zip(shipped, kept, strict=True))
    card = json.loads(weights.with_suffix(".json").read_text())
    assert (card["count"], card["data_sha256"]) == (ablation["baseline"]["count"], ablation["baseline"]["data_sha256"])
    assert abs(card["top1"] - ablation["baseline"]["top1"]) < 0.1


def test_kept_results_become_a_table() -> None:
    ablation = json.loads((DOCS / "ablation.json").read_text())
    assert "| no content | first 5 (all) |" in to_markdown(ablation)
