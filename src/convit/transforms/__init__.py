"""Preprocessing that travels with a model: which sizes and colors it wants, and the function that makes them.

Promises: the evaluation transform equals timm 1.0.31's to the last bit on 8-bit RGB pictures; nothing here needs torch
until a tensor is asked for. Start reading at `convit.transforms.evaluation`; training's random transforms stand in
`convit.transforms.training`.
"""

from convit.transforms.create import create_transform
from convit.transforms.evaluation import EvaluationTransform
from convit.transforms.settings import TransformSettings, resolve_model_data_config

__all__ = ["EvaluationTransform", "TransformSettings", "create_transform", "resolve_model_data_config"]
