import math

import pytest
import torch

from worldenv.models.attention import attend, latent_mask_bias
from worldenv.models.kv_cache import KVCache
from worldenv.models.layers import EmbeddingMLP, RMSNorm, modulate, sinusoid


def test_sinusoid_is_cosines_then_sines() -> None:
    found = sinusoid(torch.tensor([3.0]), 8)[0]
    wanted = [f(3.0 * math.exp(-math.log(10000) * i / 4)) for f in (math.cos, math.sin) for i in range(4)]
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_zero_initialised_embedding_gives_zero() -> None:
    assert not EmbeddingMLP(16, 8, zero_init=True)(torch.tensor([[1.0, 500.0]])).any()
    assert EmbeddingMLP(16, 8)(torch.tensor([[1.0, 500.0]])).any()


def test_rms_norm_has_unit_mean_square() -> None:
    out = RMSNorm(64)(5 * torch.randn(3, 64, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(out.square().mean(-1), torch.ones(3), atol=1e-4, rtol=0)


def test_modulation_is_per_latent() -> None:
    x = torch.randn(1, 2, 3, 8, generator=torch.Generator().manual_seed(0))
    shift, scale = torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)
    shift[:, 1], scale[:, 1] = 2.0, 0.5
    out = modulate(x, shift, scale)
    normed = torch.nn.functional.layer_norm(x, (8,), eps=1e-6)
    torch.testing.assert_close(out[:, 0], normed[:, 0])
    torch.testing.assert_close(out[:, 1], 1.5 * normed[:, 1] + 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_attention_routes_equal_the_formula(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=generator).to(dtype) for n in (4, 6, 6))
    mask = torch.rand(2, 2, 3, generator=generator) < 0.6
    mask[..., 0] = True
    bias = latent_mask_bias(mask, tokens=2, dtype=dtype)
    scores = (q.double() @ k.double().mT / 8**0.5).masked_fill(~bias.isfinite(), float("-inf"))
    wanted = scores.softmax(-1) @ v.double()
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(attend(q, k, v, bias).double(), wanted, atol=tolerance, rtol=0)


def test_mask_bias_expands_latents_to_tokens() -> None:
    bias = latent_mask_bias(torch.tensor([[[True, False]]]), tokens=2, dtype=torch.float32)
    assert bias.shape == (1, 1, 2, 4)
    assert bias[0, 0].tolist() == [[0, 0, -math.inf, -math.inf]] * 2


def test_cache_writes_after_the_context_and_returns_all() -> None:
    cache = KVCache(num_layers=2, batch=1, num_heads=1, num_tokens=6, head_dim=1, dtype=torch.float32)
    one, two = torch.ones(1, 1, 4, 1), torch.full((1, 1, 2, 1), 2.0)
    cache.write(1, one, one, start=0)
    k, v = cache.write(1, two, 3 * two, start=4)
    assert k.flatten().tolist() == [1, 1, 1, 1, 2, 2]
    assert v.flatten().tolist() == [1, 1, 1, 1, 6, 6]
    assert not cache.buffer[0].any()
