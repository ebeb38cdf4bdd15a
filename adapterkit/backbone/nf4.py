"""A frozen linear in four bits: NormalFloat with double quantisation, as in QLoRA (Dettmers et al. 2023, section 3).

bitsandbytes computes; its own module is not used, since on some CPUs that packs weights anew during a forward, which
two threads must not do at once. Needs bitsandbytes to be installed.
"""

from copy import copy
from typing import Any

import torch
from bitsandbytes import matmul_4bit
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import Tensor, nn

from adapterkit.errors import BackboneError

NF4 = "nf4"


class Nf4Linear(nn.Linear):
    """x·Wᵀ + b, with W (O, I) in four bits."""

    def __init__(self, linear: Any, packed: Tensor, state: Any) -> None:
        """Stand for a linear. `linear`: what it stands for; its bias is taken. `packed`: its weight in four bits, in a
        tensor of the products' dtype, since T5 turns states into its weights' dtype. `state`: bitsandbytes' scales of
        the weight. Raises BackboneError: bitsandbytes reads other weights out of it than are in it."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = Params4bit(
            packed,
            requires_grad=False,
            quant_state=state,
            blocksize=state.blocksize,
            quant_type=NF4,
            bnb_quantized=True,
        )
        bias = linear.bias
        kept = None if bias is None else nn.Parameter(bias.detach().to(packed.device), requires_grad=False)
        self.register_parameter("bias", kept)
        self.train(linear.training)
        if self.in_features % state.blocksize and not torch.equal(self.plain_weight(), self._by_blocks()):
            raise BackboneError(
                f"bitsandbytes reads rows of {self.in_features} weights in nf4 wrongly on this CPU",
                [f"found rows of {self.in_features}, expected a multiple of {state.blocksize}, the weights to a scale"],
                "Load the backbone in bfloat16 or int8.",
            )

    def forward(self, x: Tensor) -> Tensor:
        """x (…, I) to (…, O), in x's dtype, or autocast's where that is on."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        bias = None if self.bias is None else self.bias.to(x.dtype)
        y: Tensor = matmul_4bit(x, self.weight, quant_state=self._state, bias=bias)
        return y

    def plain_weight(self) -> Tensor:
        """W as numbers, in the dtype that it was in."""
        weight: Tensor = dequantize_4bit(self.weight.data, self._state)
        return weight

    def _by_blocks(self) -> Tensor:
        """W, read as if each block were a row: in version 0.50, CPUs with AVX-512 mistake the scale of others."""
        state = copy(self._state)
        count, block = state.shape.numel(), state.blocksize
        state.shape = torch.Size((1, count) if count % block else (count // block, block))
        weight: Tensor = dequantize_4bit(self.weight.data, state)
        return weight.view(self._state.shape)

    @property
    def _state(self) -> Any:
        weight: Any = self.weight
        return weight.quant_state


def narrowed(linear: Any, block: int, device: torch.device) -> Nf4Linear:
    """A linear of torch's in four bits, on a device. `block`: how many weights share a scale."""
    weight = linear.weight.detach().to(device)
    packed, state = quantize_4bit(
        weight, blocksize=block, compress_statistics=True, quant_type=NF4, quant_storage=weight.dtype
    )
    return Nf4Linear(linear, packed, state)


def adopt(trunk: nn.Module, dtype: torch.dtype) -> None:
    """Let the linears of a checkpoint that is stored in four bits be ours. `dtype`: of the products."""
    for path, module in list(trunk.named_modules()):
        if isinstance(module, Linear4bit):
            weight: Any = module.weight
            weight.quant_state.dtype = dtype
            packed = weight.data.view(-1).view(dtype).view(-1, 1)
            trunk.set_submodule(path, Nf4Linear(module, packed, weight.quant_state))
