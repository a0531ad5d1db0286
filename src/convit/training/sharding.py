"""FSDP2: parameters, gradients and optimizer states shared out over the processes, block by block."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor


def shard(model: nn.Module, mesh: Any) -> None:
    """Share a model's parameters out over a device mesh of one dimension, in place; a second call does nothing."""
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return
    blocks: Any = getattr(model, "blocks", ())
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def settle(model: nn.Module) -> None:
    """Give back what a forward pass has collected: FSDP2 leaves the root's parameters in full after it."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local(tensor: Tensor) -> Tensor:
    """The part of this process in a shared-out tensor; another tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A shared-out tensor in full; another one as it is. All processes must call it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """A copy of a full tensor, shared out and placed as `like` is."""
    from torch.distributed.tensor import distribute_tensor

    if isinstance(like, DTensor) and not isinstance(tensor, DTensor):
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.detach().to(like.device, like.dtype, copy=True)


@torch.no_grad()
def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's state with every tensor in full, on the CPU. All processes must call it together."""
    settle(model)
    return {name: whole(tensor.detach()).cpu().clone() for name, tensor in model.state_dict().items()}
