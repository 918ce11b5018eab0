"""Frozen linear layers on the CPU, with and without an adapter on them, by oneDNN.

PyTorch multiplies float32 matrices with MKL, which keeps to AVX2 on other makers' processors; oneDNN, which computes
PyTorch's convolutions, uses AVX-512 wherever it is there, and takes half the time then. A linear layer is a convolution
with a kernel of one by one. With the base's product that fast, most of a layer's time went into what PEFT does for the
adapter around two thin products; here they are added on the spot.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

IMAGES = 16
"""Rows are laid out as so many images of a pixel's width: for fewer, PyTorch leaves such a convolution to MKL."""
LEAST = 1 << 22
"""Multiplications below which the detour costs more than it saves."""


class OneDnnLinear(nn.Linear):
    """A linear layer that shares its weights with the one it stands for."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        if not fits(self, input) or input.numel() * self.out_features < LEAST:
            return F.linear(input, self.weight, self.bias)
        return _Product.apply(input, self.weight, self.bias)


class OneDnnLoraLinear(PeftLinear):
    """PEFT's adapted layer; one adapter at a time is computed here, anything else by PEFT.

    PEFT knows adapted linear layers by a name with Linear in it.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        name = self.active_adapters[0] if len(self.active_adapters) == 1 else None
        if args or kwargs or self.disable_adapters or self.merged or not self.computes(name, x):
            return super().forward(x, *args, **kwargs)
        return self.adapted(name, x)

    def computes(self, name: str | None, x: Tensor) -> bool:
        """Whether this adapter is one that is computed here."""
        if name not in self.lora_A or name in self.lora_variant or not fits(self.base_layer, x):
            return False
        return self.lora_A[name].weight.dtype == x.dtype and isinstance(self.lora_dropout[name], nn.Identity)

    def adapted(self, name: str, x: Tensor) -> Tensor:
        """The layer with this adapter, active or not."""
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        return _Adapted.apply(x, self.base_layer.weight, self.base_layer.bias, down, up, self.scaling[name])


def quicken(model: nn.Module) -> None:
    """Replace the model's plain linear layers where this processor gains by it; names and weights stay as they are."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and module.weight.device.type == "cpu" and module.weight.dtype == torch.float32:
            model.set_submodule(name, OneDnnLinear(module))


def fits(layer: nn.Linear, input: Tensor) -> bool:
    """Whether it is a product that is made here: on the CPU, in float32, by weights that are not trained."""
    trained = layer.weight.requires_grad and torch.is_grad_enabled()
    return not trained and input.device.type == "cpu" and input.dtype == layer.weight.dtype == torch.float32


class _Product(torch.autograd.Function):
    """(…, in) by (out, in) to (…, out). Unlike a convolution's own backward pass, this one does not keep the input."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight_OI)
        return _linear(_flat(input), weight_OI, bias_O).view(*input.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight_OI,) = ctx.saved_tensors
        return _linear(_flat(grad), weight_OI.t()).view(*grad.shape[:-1], -1), None, None


class _Adapted(torch.autograd.Function):
    """x Wᵀ + scale · (x Aᵀ) Bᵀ, with gradients by x, A and B."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight_OI: Tensor, bias_O: Tensor | None, down_KI: Tensor, up_OK: Tensor, scale: float
    ) -> Tensor:
        input_RI = _flat(input)
        low_RK = F.linear(input_RI, down_KI)
        ctx.save_for_backward(input, low_RK, weight_OI, down_KI, up_OK)
        ctx.scale = scale
        made = _linear(input_RI, weight_OI, bias_O).addmm_(low_RK, up_OK.t(), alpha=scale)
        return made.view(*input.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, low_RK, weight_OI, down_KI, up_OK = ctx.saved_tensors
        grad_RO = _flat(grad)
        slope_RK = (grad_RO @ up_OK).mul_(ctx.scale)
        by_input = None
        if ctx.needs_input_grad[0]:
            by_input = _linear(grad_RO, weight_OI.t()).addmm_(slope_RK, down_KI).view(input.shape)
        by_down = slope_RK.t() @ _flat(input) if ctx.needs_input_grad[3] else None
        by_up = (grad_RO.t() @ low_RK).mul_(ctx.scale) if ctx.needs_input_grad[4] else None
        return by_input, None, None, by_down, by_up, None


def _flat(input: Tensor) -> Tensor:
    return input.reshape(-1, input.shape[-1]).contiguous()


def _linear(input_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """(R, out), in memory of its own."""
    rows, width = input_RI.shape
    if rows * weight_OI.numel() < LEAST:
        return F.linear(input_RI, weight_OI, bias_O)
    padded = F.pad(input_RI, (0, 0, 0, -rows % IMAGES)) if rows % IMAGES else input_RI
    images = padded.view(IMAGES, -1, 1, width).permute(0, 3, 1, 2)
    made = F.conv2d(images, weight_OI[:, :, None, None], bias_O)
    return made.permute(0, 2, 3, 1).reshape(len(padded), -1)[:rows]
