"""The kept evaluation of the bundled model are of the weights that ship."""

import hashlib
import json
from pathlib import Path

from convit.weights.weight_sets import BUNDLED_FOLDER

DOCS = Path(__file__).parents[2] / "docs" / "evaluation"


def test_it_belongs_to_the_weights_that_ship() -> None:
    kept = json.loads((DOCS / "evaluation.json").read_text())
    weights = BUNDLED_FOLDER / kept["weights"]
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == kept["weights_sha256"]
    card = json.loads(weights.with_suffix(".json").read_text())
    assert (card["count"], card["data_sha256"]) == (kept["count"], kept["data_sha256"])
    assert abs(card["top1"] - kept["top1"]) < 0.1
    comparison = json.loads((DOCS / "comparison.json").read_text())
    assert comparison["first"]["top1"] == kept["top1"]
    assert "images" not in kept, "names of the data set's images are not kept"
