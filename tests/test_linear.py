"""Linear layers by oneDNN beside PyTorch's and PEFT's own, in float64 where it matters."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from marft.linear import LEAST, OneDnnLinear, OneDnnLoraLinear

ROWS, INTO, OUT = 1003, 96, 160  # rows are no multiple of the images
SMALL = 3


class Net(nn.Module):
    def __init__(self, bias):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(INTO, OUT, bias=bias).requires_grad_(False)
        self.config = {}

    def forward(self, x):
        return self.layer(x)


def adapted(net, names=("one", "two")):
    """With adapters that are not zero, and `one` active."""
    made = None
    for number, name in enumerate(names):
        config = LoraConfig(r=4, lora_alpha=12, target_modules=["layer"])
        config._register_custom_module({OneDnnLinear: OneDnnLoraLinear})
        if made is None:
            made = get_peft_model(net, config, adapter_name=name)
        else:
            made.add_adapter(name, config)
        torch.manual_seed(number + 1)
        nn.init.normal_(net.layer.lora_A[name].weight)
        nn.init.normal_(net.layer.lora_B[name].weight)
    made.set_adapter(names[0])
    return made


def swapped(net):
    net.layer = OneDnnLinear(net.layer)
    return net


def results(net, x, *trained):
    """The output, and the gradients of a sum of its cubes by x and the trained weights."""
    x = x.clone().requires_grad_()
    out = net(x)
    return out.detach(), *torch.autograd.grad(out.pow(3).sum(), [x, *trained])


def assert_near(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(ROWS, INTO), (17, 59, INTO), (SMALL, INTO)])
def test_a_layer_is_pytorchs(bias, shape):
    assert shape == (SMALL, INTO) or ROWS * INTO * OUT > LEAST > SMALL * INTO * OUT
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(5))
    assert_near(results(swapped(Net(bias)), x), results(Net(bias).double(), x.double()))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(ROWS, INTO), (17, 59, INTO), (SMALL, INTO)])
def test_an_adapted_layer_is_pefts(bias, shape):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(6))
    ours, plain = swapped(Net(bias)), Net(bias)
    adapted(ours), adapted(plain)
    assert type(ours.layer) is OneDnnLoraLinear
    assert type(plain.layer) is not OneDnnLoraLinear
    plain = copy.deepcopy(plain).double()

    def weights(net):
        return net.layer.lora_A["one"].weight, net.layer.lora_B["one"].weight

    assert_near(results(ours, x, *weights(ours)), results(plain, x.double(), *weights(plain)))


def test_another_adapter_or_none_is_what_peft_makes_of_it():
    x = torch.randn(ROWS, INTO, generator=torch.Generator().manual_seed(7))
    net = swapped(Net(True))
    made = adapted(net)
    one, base = made(x), nn.functional.linear(x, net.layer.base_layer.weight, net.layer.base_layer.bias)
    made.set_adapter("two")
    two = made(x)
    by_two = net.layer.lora_B["two"](net.layer.lora_A["two"](x)) * net.layer.scaling["two"]
    torch.testing.assert_close(two, base + by_two, rtol=1e-5, atol=1e-4)
    assert not torch.allclose(one, two, atol=1e-2)
    with made.disable_adapter():
        torch.testing.assert_close(made(x), base, rtol=1e-5, atol=1e-5)


def test_trained_weights_get_their_gradient():
    net = swapped(Net(True))
    net.layer.weight.requires_grad_(True)
    x = torch.randn(ROWS, INTO)
    net(x).sum().backward()
    torch.testing.assert_close(net.layer.weight.grad, x.sum(0).expand(OUT, INTO), rtol=1e-4, atol=1e-3)
