from .gated_attention import check_runs, fused_gated_attention

__all__ = ["check_runs", "fused_gated_attention"]
