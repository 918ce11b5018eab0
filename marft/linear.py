"""Frozen linear layers on the CPU, by oneDNN.

PyTorch multiplies float32 matrices with MKL, which keeps to AVX2 on other makers' processors; oneDNN, which computes
PyTorch's convolutions, uses AVX-512 wherever it is there, and takes half the time then. A linear layer is a convolution
with a kernel of one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

IMAGES = 16
"""Rows are laid out as so many images of a pixel's width: for fewer, PyTorch leaves a convolution of one by one to MKL."""
LEAST = 1 << 22
"""Multiplications below which the detour costs more than it saves."""


class OneDnnLinear(nn.Linear):
    """A linear layer that shares its weights with the one it stands for."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() * self.out_features < LEAST or not self._simple(input):
            return F.linear(input, self.weight, self.bias)
        made = _Frozen.apply(input.reshape(-1, self.in_features), self.weight)
        made = made if self.bias is None else made + self.bias
        return made.view(*input.shape[:-1], self.out_features)

    def _simple(self, input: Tensor) -> bool:
        trained = self.weight.requires_grad and torch.is_grad_enabled()
        return not trained and input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32


class _Frozen(torch.autograd.Function):
    """(R, in) by (out, in) to (R, out). Unlike a convolution's own backward pass, this one does not keep the input."""

    @staticmethod
    def forward(ctx: Any, input_RI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(weight_OI)
        return _product(input_RI, weight_OI)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RO: Tensor) -> tuple[Tensor, None]:
        (weight_OI,) = ctx.saved_tensors
        return _product(grad_RO.contiguous(), weight_OI.t()), None


def _product(input_RI: Tensor, weight_OI: Tensor) -> Tensor:
    rows, width = input_RI.shape
    padded = F.pad(input_RI, (0, 0, 0, -rows % IMAGES)) if rows % IMAGES else input_RI
    images = padded.view(IMAGES, -1, 1, width).permute(0, 3, 1, 2)
    made = F.conv2d(images, weight_OI[:, :, None, None])
    return made.permute(0, 2, 3, 1).reshape(len(padded), -1)[:rows]


def quicken(model: nn.Module) -> None:
    """Replace the model's plain linear layers where this processor gains by it; names and weights stay as they are."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and module.weight.device.type == "cpu" and module.weight.dtype == torch.float32:
            model.set_submodule(name, OneDnnLinear(module))
