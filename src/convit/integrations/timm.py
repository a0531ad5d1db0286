"""timm's names on our class: after `import convit.integrations.timm`, timm makes this project's ConViT.

`timm.create_model("convit_base", pretrained=True)`, `features_only`, `hf-hub:` and `local-dir:` names, `save_for_hf`,
`timm.utils` and what timm's scripts call run as before, through timm's own builder; `disable` gives timm its class
back. A script that knows nothing of this package is run by `python -m convit.integrations.timm train.py …`.
"""

from __future__ import annotations

import importlib
import inspect
import runpy
import sys
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

try:
    import timm
    from timm.models import convit as timms
    from timm.models._input import update_model_input_size
except ImportError as error:
    found = getattr(sys.modules.get("timm"), "__version__", None)
    state = "is not installed" if found is None else f"is {found}, which is too old"
    raise ImportError(f"timm {state}; pip install 'timm>=1.0.31'") from error

from convit.model import ConViT, ConViTConfig, GatedPositionalSelfAttention, GlobalPool
from convit.model.config import check_divisible
from convit.model.positional import stretched

_DEFAULTS = {"embed_dim": 768, "num_heads": 12, "local_up_to_layer": 3}  # of timm's class, where they differ
_THEIRS = timms.ConVit


class ConVit(ConViT):
    """Our model behind the constructor of timm's class; options are fields of `ConViTConfig`, with timm's defaults.

    Raises:
        TypeError: an option is not a field of the configuration, or `norm_layer` is not a LayerNorm.
        ValueError: a value that the configuration refuses.
    """

    def __init__(
        self,
        *,
        hybrid_backbone: nn.Module | None = None,
        norm_layer: type[nn.Module] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        if norm_layer is not None and not issubclass(norm_layer, nn.LayerNorm):
            raise TypeError(f"norm_layer is {norm_layer.__name__}, but a ConViT has LayerNorm; leave it out")
        with nullcontext() if device is None else torch.device(device):
            super().__init__(ConViTConfig().replace(**{**_DEFAULTS, **options}), hybrid_backbone)
        self.to(dtype=dtype)

    def reset_classifier(self, num_classes: int, global_pool: GlobalPool | None = None) -> None:
        """As `ConViT.reset_classifier`, with timm's kind of error.

        Raises:
            AssertionError: what is a ValueError there.
        """
        try:
            super().reset_classifier(num_classes, global_pool)
        except ValueError as error:
            raise AssertionError(str(error)) from None

    def set_input_size(self, img_size: int | tuple[int, int] | None = None, patch_size: int | None = None) -> None:
        """As `ConViT.set_input_size`, and `save_for_hf` knows of it.

        Raises:
            ValueError: as there.
        """
        super().set_input_size(img_size, patch_size)
        update_model_input_size(self, (self.config.image_height, self.config.image_width), patch_size=patch_size)


def enable() -> None:
    """Let timm make our class under its names; importing this module does it."""
    timms.ConVit = timm.models.ConVit = ConVit
    # FX writes them into its graphs, where TorchScript can't read those of jaxtyping
    inspect.unwrap(ConViT.forward).__annotations__.update({"images": Tensor, "return": Tensor})
    # FX can't record what depends on the grid of patches
    timm.models.register_notrace_module(GatedPositionalSelfAttention)
    timm.models.register_notrace_function(check_divisible)
    timm.models.register_notrace_function(stretched)


def disable() -> None:
    """Let timm make its own class again; models that exist stay what they are."""
    timms.ConVit = timm.models.ConVit = _THEIRS


if __name__ == "__main__":
    importlib.import_module("convit.integrations.timm")
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    enable()
