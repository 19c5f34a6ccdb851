import pytest
import torch
from torch import nn
from torch.nn import functional as F

from worldenv.base.device import default_dtype
from worldenv.models import attention, backend
from worldenv.models.attention import latent_mask_bias
from worldenv.models.backend import BACKENDS, resolve_backend

CPU, TOKENS = torch.device("cpu"), 4


def oracle(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    scores = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    return ((scores if bias is None else scores + bias.double()).softmax(-1) @ v.double()).float()


def random_qkv(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 2, n, 16, generator=generator) for n in (24, 40, 40)]


def random_mask(kind: str) -> torch.Tensor | None:
    """Masks between 6 query and 10 key latents: with holes, in blocks, of one row for all, of equal neighbours."""
    mask = torch.rand(5, 6, 10, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[..., 0] = True
    block = (torch.arange(10) // 3 <= torch.arange(6)[:, None] // 2).expand(5, -1, -1).clone()
    if kind == "mixed":
        mask[1:4] = block[1:4]
    return {"none": None, "holes": mask, "one": mask[:1], "block": block, "mixed": mask}[kind]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["none", "holes", "one", "block", "mixed"])
@pytest.mark.parametrize("limit", [1, 24 * 40, 3 * 2 * 24 * 40, 2**21])
@pytest.mark.parametrize("segments_from", [0, 2**19])
def test_every_backend_is_softmax_attention(
    name: str,
    dtype: torch.dtype,
    kind: str,
    limit: int,
    segments_from: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In slices of single queries, of heads, of rows, and in one piece; under a bias, and in segments."""
    monkeypatch.setattr(attention, "SCORES", limit)
    monkeypatch.setattr(backend, "SEGMENTS_FROM", segments_from)
    q, k, v = (t.to(dtype) for t in random_qkv())
    mask = random_mask(kind)
    bias = None if mask is None else latent_mask_bias(mask, tokens=TOKENS, dtype=dtype)
    out = BACKENDS[name](mask, tokens=TOKENS, dtype=dtype).attend(q, k, v)
    assert out.dtype == dtype
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(out.float(), oracle(q, k, v, bias), atol=tolerance, rtol=0)


@pytest.mark.parametrize("limit", [1, 24 * 40])
def test_what_nobody_sees_is_never_read(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES", limit)
    monkeypatch.setattr(backend, "SEGMENTS_FROM", 0)
    q, k, v = random_qkv()
    mask = torch.zeros(1, 6, 10, dtype=torch.bool)
    mask[..., 2:7] = True
    k[:, :, : 2 * TOKENS], v[:, :, 7 * TOKENS :] = torch.nan, torch.nan
    assert BACKENDS["onednn"](mask, tokens=TOKENS, dtype=torch.float32).attend(q, k, v).isfinite().all()


@pytest.mark.parametrize("segments_from", [0, 2**19])
def test_a_row_attends_alike_whatever_the_others_see(segments_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "SEGMENTS_FROM", segments_from)
    q, k, v = random_qkv()
    mask, other = random_mask("holes"), random_mask("mixed")
    assert mask is not None
    assert other is not None
    one, two = (BACKENDS["onednn"](m, tokens=TOKENS, dtype=q.dtype).attend(q, k, v) for m in (mask, other))
    assert torch.equal(one[[0, 4]], two[[0, 4]])
    assert not torch.equal(one[1:4], two[1:4])


def test_backends_have_the_same_gradients() -> None:
    torch.manual_seed(0)
    mask, linear, gradients = random_mask("mixed"), nn.Linear(16, 8), []
    for name in BACKENDS:
        q, k, v = (t.requires_grad_() for t in random_qkv())
        chosen = BACKENDS[name](mask, tokens=TOKENS, dtype=q.dtype)
        out = chosen.linear_gelu(linear, chosen.attend(q, k, v))
        gradients.append(torch.autograd.grad(out.square().sum(), (q, k, v, linear.weight)))
    for one, *others in zip(*gradients, strict=True):
        for other in others:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_every_backend_has_the_same_gelu(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    x, linear = torch.randn(3, 5, 16).to(dtype), nn.Linear(16, 8).to(dtype).requires_grad_(False)
    wanted = F.gelu(linear(x), approximate="tanh")
    for name in BACKENDS:
        if name == "onednn" and dtype == torch.bfloat16 != default_dtype(CPU):
            with pytest.raises(ValueError, match="does not compute in bfloat16"):
                resolve_backend(name, device=CPU, dtype=dtype)
            continue
        with torch.no_grad():
            found = BACKENDS[name](None, tokens=TOKENS, dtype=dtype).linear_gelu(linear, x)
        torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0)


def test_backends_are_chosen_by_name_dtype_and_device() -> None:
    assert resolve_backend("auto", device=CPU, dtype=torch.float32) == "torch"
    assert resolve_backend("auto", device=torch.device("cuda"), dtype=torch.bfloat16) == "torch"
    assert resolve_backend("auto", device=torch.device("cuda"), dtype=torch.bfloat16, head_dim=24) == "torch"
    assert resolve_backend("auto", device=torch.device("cuda"), dtype=torch.float32, head_dim=64) == "torch"
    assert resolve_backend("torch", device=CPU, dtype=torch.bfloat16) == "torch"
    assert resolve_backend("onednn", device=CPU, dtype=torch.float32) == "onednn"
    with pytest.raises(ValueError, match="unknown backend 'blas'; choose auto, torch, onednn, triton"):
        resolve_backend("blas", device=CPU, dtype=torch.float32)
    with pytest.raises(ValueError, match="not on cuda"):
        resolve_backend("onednn", device=torch.device("cuda"), dtype=torch.bfloat16)


def test_on_a_gpu_kernels_are_chosen_if_they_take_the_heads(triton: None) -> None:
    for name in ("auto", "triton"):
        assert resolve_backend(name, device=torch.device("cuda"), dtype=torch.bfloat16, head_dim=64) == "triton"
    with pytest.raises(ValueError, match="float32 on a GPU, kernels take bfloat16 and float16; pass backend='auto' or"):
        resolve_backend("triton", device=torch.device("cuda"), dtype=torch.float32, head_dim=64)


def test_a_mask_between_latents_covers_their_tokens() -> None:
    bias = latent_mask_bias(torch.tensor([[[True, False]]]), tokens=2, dtype=torch.float32)
    assert bias.tolist() == [[[[0, 0, float("-inf"), float("-inf")]] * 2]]
