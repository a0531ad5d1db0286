"""What a ConViT's heads look at and what its gates learned: maps, rollout, gates, non-locality, learned centers.

The room promises that everything is measured on propagated activations, on any patch grid, in every layer, and that
the model is left as it was: its mode, hooks, gradients and weights. Start reading at `attention.py`. What needs
matplotlib (`drawing.py`, `page.py`) is imported by name.
"""

from convit.analysis.attention import LayerMaps, attention_maps, attention_matrices, nonlocality
from convit.analysis.gating import forced_gates, gates, locality_centers, masked_position_embedding
from convit.analysis.rollout import attention_rollout, class_rollout

__all__ = [
    "LayerMaps",
    "attention_maps",
    "attention_matrices",
    "attention_rollout",
    "class_rollout",
    "forced_gates",
    "gates",
    "locality_centers",
    "masked_position_embedding",
    "nonlocality",
]
