"""The weights that ship in the package: they are there, and their figures belong to them."""

import pytest

from convit.model import ConViTConfig
from convit.output.files import hash_file
from convit.weights import WEIGHT_SETS, create_model, find_weight_set
from convit.weights.header import read_metadata
from convit.weights.weight_sets import BUNDLED_NAMES


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_figures_belong_to_the_file_that_ships(name):
    weight_set = find_weight_set(name)
    assert name in WEIGHT_SETS
    assert weight_set.file is not None
    assert weight_set.sha256 == hash_file(weight_set.file)
    assert weight_set.file.stat().st_size < 25_000_000
    assert weight_set.top1 is not None
    assert weight_set.top5 is not None
    assert 0 < weight_set.top1 <= weight_set.top5 <= 100
    assert "images (data sha256 " in weight_set.measured_by
    for value in (weight_set.license, weight_set.trained_on, weight_set.origin, weight_set.classes):
        assert value


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_shipped_file_describes_itself(name):
    weight_set = find_weight_set(name)
    description = read_metadata(weight_set.file)
    assert description["architecture"] == weight_set.architecture
    assert len(description["classes"]) == weight_set.num_classes
    model = create_model(name, pretrained=True)
    assert weight_set.config == ConViTConfig.from_dict(description["config"]) == model.config
    card = model.pretrained_cfg
    assert card["label_names"] == tuple(description["classes"])
    assert (card["source"], card["input_size"]) == ("bundled", weight_set.input_size)
