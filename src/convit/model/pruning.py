"""What chosen blocks don't need, dropped for good."""

from __future__ import annotations

from typing import Any

from torch import nn


def prune(model: Any, chosen: list[int], *, prune_norm: bool, prune_head: bool) -> list[int]:
    """Drop what the maps of `chosen` blocks don't need, so that every parameter left gets a gradient; `config` follows.

    Blocks behind the last one go, and the class token where it joins behind it; with `prune_norm` the last norm, with
    `prune_head` head and pooling, which go anyway where they read a class token that goes. Gives `chosen`, rising
    indices, back.
    """
    depth, old = chosen[-1] + 1, model.config
    changes: dict[str, Any] = {"depth": depth}
    changes["drop_path_rate"] = old.drop_path_rate * (depth - 1) / max(old.depth - 1, 1)
    model.blocks = model.blocks[:depth]
    if depth <= old.local_up_to_layer:
        model.cls_token = None
        prune_head = prune_head or old.global_pool == "token"
    if prune_norm:
        model.norm = nn.Identity().train(model.norm.training)
    model.config = old.replace(**changes, **({"num_classes": 0, "global_pool": ""} if prune_head else {}))
    if prune_head:
        model.reset_classifier(0)
    return chosen
