import pytest
import torch

from worldenv.models import attention
from worldenv.models.attention import attend, latent_mask_bias


def oracle(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    scores = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    return ((scores if bias is None else scores + bias.double()).softmax(-1) @ v.double()).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [None, 1, 5])
@pytest.mark.parametrize("limit", [1, 3 * 2 * 24 * 40, 2**25])
def test_every_route_is_softmax_attention(
    dtype: torch.dtype, rows: int | None, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fused kernel, slices of three rows (the last of two) and one product of matrices."""
    monkeypatch.setattr(attention, "MATMUL_SCORES", limit)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(5, 2, n, 16, generator=generator).to(dtype) for n in (24, 40, 40))
    bias = None
    if rows is not None:
        mask = torch.rand(rows, 6, 10, generator=generator) < 0.6
        mask[..., 0] = True
        bias = latent_mask_bias(mask, tokens=4, dtype=dtype)
    out = attend(q, k, v, bias)
    assert out.dtype == dtype
    torch.testing.assert_close(
        out.float(), oracle(q, k, v, bias), atol=2e-2 if dtype == torch.bfloat16 else 1e-5, rtol=0
    )


def test_a_mask_between_latents_covers_their_tokens() -> None:
    bias = latent_mask_bias(torch.tensor([[[True, False]]]), tokens=2, dtype=torch.float32)
    assert bias.tolist() == [[[[0, 0, float("-inf"), float("-inf")]] * 2]]
