import pytest
import torch
from torch import nn

from worldenv.models.quantize import Int8Linear, quantize_linears


def test_integer_linears_are_close_to_the_real_ones() -> None:
    """One scale per token and per output: the error stays below a hundredth, whatever their magnitudes."""
    torch.manual_seed(0)
    linear, x = nn.Linear(64, 24), torch.randn(2, 3, 64) * torch.logspace(-3, 3, 6).view(2, 3, 1)
    with torch.no_grad():
        linear.weight *= torch.logspace(-2, 2, 24)[:, None]
        wanted, found = linear(x) - linear.bias, Int8Linear(linear)(x) - linear.bias
    scale = x.norm(dim=-1, keepdim=True) * linear.weight.detach().norm(dim=1)
    assert ((found - wanted).abs() / scale).max() < 1e-2
    assert not torch.equal(found, wanted)


def test_a_token_is_quantised_alone() -> None:
    torch.manual_seed(0)
    linear, x = Int8Linear(nn.Linear(32, 16, bias=False)).bfloat16(), torch.randn(5, 32).bfloat16()
    other = x.clone()
    other[1:] *= 100
    assert linear(x).dtype == torch.bfloat16
    assert torch.equal(linear(x)[0], linear(other)[0])


def test_every_linear_within_a_module_is_replaced() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)))
    quantize_linears(module, "none")
    assert not any(isinstance(m, Int8Linear) for m in module.modules())
    quantize_linears(module, "int8")
    assert not any(isinstance(m, nn.Linear) for m in module.modules())
    with pytest.raises(ValueError, match="quantize='int3'; choose one of none, int8"):
        quantize_linears(module, "int3")
