"""How several processes share a training: each a whole copy (DDP), or each a share of the weights (FSDP2).

Sharded are the vision tower's layers, the projector and the decoder's layers, each gathered while it computes and let
go after it; the embedding, tied to the head, and what is left over are gathered around the whole of a forward pass.
Frozen weights are sharded as well, and keep their own dtype beside float32 LoRA matrices (a group is sent as bytes, nf4
included): nothing is computed in another precision than in one process. This is torch's `fully_shard` itself, because
accelerate runs DDP where FSDP is asked for on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from pgtune.forward import SuffixLossModel

__all__ = ["Root", "clip_gradients", "let_go", "local", "place", "shard", "whole"]


class Root(SuffixLossModel):
    """The module that is wrapped for several processes, and whatever else must run while its weights are gathered."""

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what uses parts of the model, as `generate` does."""
        return function(*args, **kwargs)


def shard(root: Root, device: torch.device) -> None:
    """Leave each rank its share of all weights, in place. Parameters become DTensors under their old names."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    from transformers.models.gemma.modeling_gemma import GemmaDecoderLayer
    from transformers.models.gemma2.modeling_gemma2 import Gemma2DecoderLayer
    from transformers.models.paligemma.modeling_paligemma import PaliGemmaMultiModalProjector
    from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

    units = (SiglipEncoderLayer, PaliGemmaMultiModalProjector, GemmaDecoderLayer, Gemma2DecoderLayer)
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module in [module for module in root.modules() if isinstance(module, units)]:
        fully_shard(module, mesh=mesh)
    fully_shard(root, mesh=mesh)
    register_fsdp_forward_method(root, "call")


def let_go(root: Root) -> None:
    """Free what stays gathered after a forward pass without a backward pass, before weights are read or written."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(root, FSDPModule):
        root.reshard()


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all of its shares; all ranks must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's share."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def place(full: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same on every rank, laid out as another is: no rank sends anything."""
    full = full.to(like.device)
    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """Clip gradients to a global norm, that of all shares together; the norm before it."""
    held = list(parameters)
    norm = torch.nn.utils.get_total_norm([one.grad for one in held if one.grad is not None])
    norm = whole(norm)
    torch.nn.utils.clip_grads_with_norm_(held, limit, norm)
    return float(norm)
