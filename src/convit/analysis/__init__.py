"""What a ConViT's heads look at and what its gates learned: gates, attention matrices, non-locality, learned centres.

The room promises that everything is measured on propagated activations, on any patch grid, in every layer, and that
the model is left as it was: its mode, hooks, gradients and weights. Start reading at `attention.py`.
"""

from convit.analysis.attention import attention_matrices, nonlocality
from convit.analysis.gating import gates, locality_centres

__all__ = ["attention_matrices", "gates", "locality_centres", "nonlocality"]
