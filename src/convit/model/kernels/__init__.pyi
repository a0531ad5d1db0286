from .gated_attention import check_runs as check_runs
from .gated_attention import fused_gated_attention as fused_gated_attention
