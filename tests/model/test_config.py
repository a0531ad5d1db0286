"""The configuration: ranges, JSON, variants."""

import json

import pytest

from convit.model import VARIANTS, ConViT, ConViTConfig

PARAMETERS = {  # millions, ConViT paper Table 1 and timm's result tables
    "convit_tiny": 5.71,
    "convit_tiny_plus": 9.97,
    "convit_small": 27.78,
    "convit_small_plus": 48.98,
    "convit_base": 86.54,
    "convit_base_plus": 153.13,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_of_the_published_variants(name: str) -> None:
    import torch

    with torch.device("meta"):
        model = ConViT(VARIANTS[name].config, initialize=False)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == PARAMETERS[name]


def test_a_configuration_survives_json() -> None:
    config = ConViTConfig(img_size=(112, 448), num_heads=9, global_pool="avg")
    assert ConViTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_files_that_still_name_the_convolutional_stem_are_read_only_without_one() -> None:
    assert ConViTConfig.from_dict({"num_heads": 9, "stem_widths": []}).num_heads == 9
    with pytest.raises(TypeError, match=r"'stem_widths' is not a ConViT option"):
        ConViTConfig.from_dict({"stem_widths": [8, 16]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 0}, "num_heads is 0"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"drop_rate": 1.0}, r"drop_rate is 1.0, but must lie in \[0, 1\)"),
        ({"global_pool": "max"}, "global_pool is 'max'"),
        ({"local_up_to_layer": 12}, r"no block sees a class token .*global_pool='avg'"),
        ({"img_size": 230}, "230 x 230 pixels .*dynamic_img_pad"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConViTConfig(**options)  # type: ignore[arg-type]


def test_unknown_options_are_refused() -> None:
    with pytest.raises(TypeError, match=r"'heads' is not a ConViT option; there are: .*num_heads"):
        ConViTConfig().replace(heads=4)
