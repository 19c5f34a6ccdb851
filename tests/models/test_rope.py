"""RoPE, PRoPE and the dual attention against float64 formulas in the field's interleaved layout."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from worldenv.geometry.pose import invert_se3, look
from worldenv.models.attention import attend, latent_mask_bias
from worldenv.models.block import DualAttention
from worldenv.models.dit import WorldDiT
from worldenv.models.kv_cache import KVCache
from worldenv.models.place import Place
from worldenv.models.prope import apply_heads, camera_projection, head_matrices
from worldenv.models.rope import apply_rope, rope_table
from worldenv.models.types import Conditioning, DiTConfig

FIXTURES = Path(__file__).resolve().parents[3] / "shared/fixtures/worldplay_reference"
HEADS, DIM, BATCH, FRAMES, ROWS, COLUMNS = 2, 24, 2, 3, 2, 3
TOKENS = ROWS * COLUMNS
FX, FY = 0.5, 0.9


def to_interleaved(x: Tensor) -> Tensor:
    """Component-major channels (quarters a, b, c, d) to groups (a_j, b_j, c_j, d_j)."""
    return x.unflatten(-1, (4, -1)).transpose(-1, -2).flatten(-2)


def oracle_rope(x: Tensor, positions: Tensor) -> Tensor:
    """Rotate interleaved pairs (2i, 2i + 1): 8 channels each for time, rows, columns. x (B, F, S, N, 24)."""
    out = x.clone()
    for f in range(x.shape[1]):
        for s in range(x.shape[2]):
            for pair in range(DIM // 2):
                axis, i = divmod(pair, 4)
                for b in range(x.shape[0]):
                    place = (float(positions[b, f]), s // COLUMNS, s % COLUMNS)[axis]
                    angle = torch.tensor(place * 10000.0 ** (-2 * i / 8), dtype=torch.float64)
                    even, odd = x[b, f, s, :, 2 * pair], x[b, f, s, :, 2 * pair + 1]
                    out[b, f, s, :, 2 * pair] = even * angle.cos() - odd * angle.sin()
                    out[b, f, s, :, 2 * pair + 1] = even * angle.sin() + odd * angle.cos()
    return out


def oracle_camera(c2w: Tensor) -> tuple[Tensor, Tensor]:
    lift = torch.diag(torch.tensor([FX, FY, 1, 1], dtype=torch.float64))
    projection = lift @ torch.linalg.inv(c2w.double())
    return projection, torch.linalg.inv(projection)


def on_groups(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply channels 4j..4j+3 by a 4x4 per latent: matrix (B, F, 4, 4), x (B, F, S, N, 24)."""
    return torch.einsum("bfij,bfsngj->bfsngi", matrix, x.unflatten(-1, (-1, 4))).flatten(-2)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cameras() -> Tensor:
    return look(random(BATCH, FRAMES, 3), random(BATCH, FRAMES, seed=1), 0.3 * random(BATCH, FRAMES, seed=2))


POSITIONS = torch.tensor([[0, 1, 2], [5, 9, 30]])
NORMALISED = torch.tensor([[FX, 0, 0.5], [0, FY, 0.5], [0, 0, 1]], dtype=torch.float64)


def test_rope_equals_the_interleaved_formula() -> None:
    x = random(BATCH, FRAMES, TOKENS, HEADS, DIM)
    table = rope_table(POSITIONS, rows=ROWS, columns=COLUMNS, head_dim=DIM, theta=10000.0)
    found = to_interleaved(apply_rope(x, tuple(t.double() for t in table)))  # type: ignore[arg-type]
    torch.testing.assert_close(found, oracle_rope(to_interleaved(x), POSITIONS), atol=1e-6, rtol=0)


def test_rows_and_columns_are_counted_from_an_origin() -> None:
    """Whatever moves with it is as far from it as it was, and it need not lie between tokens."""
    one = random(1, 1, 1, HEADS, DIM).expand(-1, -1, TOKENS, -1, -1)

    def turned(x: Tensor, *origin: float) -> Tensor:
        sizes = {"rows": ROWS, "columns": COLUMNS, "head_dim": DIM, "theta": 10000.0}
        table = rope_table(torch.zeros(1, 1), **sizes, origin=torch.tensor([[origin]]) if origin else None)  # type: ignore[arg-type]
        return apply_rope(x, tuple(t.double() for t in table))  # type: ignore[arg-type]

    first, second = 0, 1  # tokens of the first row
    torch.testing.assert_close(turned(one, -1, -1), turned(one))
    moved = turned(one, -1 + 4 / COLUMNS, -1 + 2 / ROWS)  # two columns to the right, a row down
    torch.testing.assert_close(moved[:, :, COLUMNS + 2], turned(one)[:, :, first])
    half = -1 + 1 / COLUMNS, -1.0
    torch.testing.assert_close(turned(turned(one, *half), *half)[:, :, second], turned(one)[:, :, second])


def test_rope_splits_heads_of_128_as_wan_does() -> None:
    """44 channels for time, 42 for rows, 42 for columns."""
    _, sine = rope_table(torch.tensor([[1]]), rows=2, columns=2, head_dim=128, theta=10000.0)
    turning = to_interleaved(sine[0, 0, :, 0]) != 0  # (S, 128)
    ranges = {"time": range(44), "rows": range(44, 86), "columns": range(86, 128)}
    for token, axes in ((0, ["time"]), (1, ["time", "columns"]), (2, ["time", "rows"]), (3, list(ranges))):
        wanted = sorted(i for axis in axes for i in ranges[axis])
        assert turning[token].nonzero().flatten().tolist() == wanted


def test_prope_equals_the_formula_on_groups_of_four() -> None:
    x, c2w = random(BATCH, FRAMES, TOKENS, HEADS, DIM), cameras()
    query, key, out = head_matrices(*camera_projection(c2w, NORMALISED), head_dim=DIM, dtype=torch.float64)
    projection, inverse = oracle_camera(c2w)
    plain = to_interleaved(x)
    for matrix, formula in ((query, projection.mT), (key, inverse), (out, projection)):
        found = to_interleaved(apply_heads(x, matrix))
        torch.testing.assert_close(found, on_groups(formula, plain), atol=1e-9, rtol=0)


def test_projection_and_unprojection_are_inverses_and_ignore_the_principal_point() -> None:
    projection, unprojection = camera_projection(cameras(), NORMALISED)
    eye = torch.eye(4, dtype=torch.float64).expand(BATCH, FRAMES, 4, 4)
    torch.testing.assert_close(projection @ unprojection, eye, atol=1e-12, rtol=0)
    shifted = NORMALISED.clone()
    shifted[:2, 2] = 0.1
    assert torch.equal(camera_projection(cameras(), shifted)[0], projection)


def test_dual_attention_equals_the_reference_formula() -> None:
    """to_out(softmax(Rq Rk) v) + to_out_prope(P softmax(P^T q, P^-1 k) P^-1 v), joint RMS norm of q and k."""
    torch.manual_seed(0)
    attention = DualAttention(DiTConfig(width=HEADS * DIM, num_heads=HEADS, latent_channels=4)).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    attention.requires_grad_(False)
    x, c2w = random(BATCH, FRAMES, TOKENS, HEADS * DIM), cameras()
    table = rope_table(POSITIONS, rows=ROWS, columns=COLUMNS, head_dim=DIM, theta=10000.0)
    rope = (table[0].double(), table[1].double())
    matrices = head_matrices(*camera_projection(c2w, NORMALISED), head_dim=DIM, dtype=torch.float64)
    mask = torch.ones(FRAMES, FRAMES, dtype=torch.bool).tril()
    bias = latent_mask_bias(mask[None], tokens=TOKENS, dtype=torch.float64)
    place = Place(rope, matrices)
    queries, *keys_values = attention.project(x)
    attended = attend(place.queries(queries), *place.keys(*keys_values), bias)
    found = attention.merge(place.bring_back(attended))

    q, k, v = (x @ attention.to_qkv.weight.T + attention.to_qkv.bias).chunk(3, -1)
    q, k = (
        t / (t.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w
        for t, w in ((q, attention.norm_q.weight), (k, attention.norm_k.weight))
    )
    q, k, v = (to_interleaved(t.unflatten(-1, (HEADS, DIM))) for t in (q, k, v))
    projection, inverse = oracle_camera(c2w)
    blocked = ~mask.repeat_interleave(TOKENS, 0).repeat_interleave(TOKENS, 1)

    def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.flatten(1, 2).transpose(1, 2) for t in (q, k, v))
        scores = (q @ k.mT / DIM**0.5).masked_fill(blocked, float("-inf"))
        return (scores.softmax(-1) @ v).transpose(1, 2).unflatten(1, (FRAMES, TOKENS))

    rotary = softmax_attention(oracle_rope(q, POSITIONS), oracle_rope(k, POSITIONS), v)
    camera = on_groups(
        projection, softmax_attention(on_groups(projection.mT, q), on_groups(inverse, k), on_groups(inverse, v))
    )

    def component_major(t: Tensor) -> Tensor:
        return t.unflatten(-1, (-1, 4)).transpose(-1, -2).flatten(-2).flatten(-2)

    assert attention.to_out_prope is not None
    wanted = attention.to_out(component_major(rotary)) + attention.to_out_prope(component_major(camera))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_keys_and_values_of_the_first_layer_equal_the_reference() -> None:
    """Golden test: released weights, brought here by the documented permutation, give the reference's K and V."""
    if not FIXTURES.is_dir():
        pytest.skip(f"{FIXTURES} is not there")
    golden, weights = load_file(FIXTURES / "forward.safetensors"), load_file(FIXTURES / "transformer.safetensors")
    config = DiTConfig(
        latent_channels=8, width=48, num_layers=1, num_heads=2, ffn_dim=96, freq_dim=32, position_embedding=False
    )
    dit = WorldDiT(config).requires_grad_(False)
    order = to_interleaved(torch.arange(48.0).view(2, 24)).flatten().long().argsort()  # component-major <- interleaved
    attn = "blocks.0.attn1"
    ours = {
        "patch_embedding.weight": weights["patch_embedding.weight"][:, :, 0].permute(0, 2, 3, 1).flatten(1),
        "patch_embedding.bias": weights["patch_embedding.bias"],
        "blocks.0.scale_shift_table": weights["blocks.0.scale_shift_table"][0],
        **{f"blocks.0.attn.norm_{n}.weight": weights[f"{attn}.norm_{n}.weight"][order] for n in "qk"},
    }
    for kind in ("weight", "bias"):
        rows = [weights[f"{attn}.to_{n}.{kind}"][order] for n in "qkv"]
        ours[f"blocks.0.attn.to_qkv.{kind}"] = torch.cat(rows)
        for part in (
            "time_embedder.linear_1",
            "time_embedder.linear_2",
            "action_embedder.linear_1",
            "action_embedder.linear_2",
            "time_proj",
        ):
            ours[f"{part}.{kind}"] = weights[f"condition_embedder.{part}.{kind}"]
    missing, unexpected = dit.load_state_dict(ours, strict=False)
    assert not unexpected
    assert not [m for m in missing if "qkv" in m or "embedd" in m]
    context = golden["forward.context"].transpose(1, 2)  # (1, 8, 8, 4, 6)
    num = context.shape[1]
    c2w = invert_se3(golden["forward.w2c"][:, :num])
    projection, unprojection = camera_projection(c2w, golden["forward.K"][:, :num])
    cond = Conditioning(
        timesteps=torch.full((1, num), 14.0),
        labels=golden["forward.action"].view(1, -1)[:, :num].long(),
        positions=torch.arange(num)[None],
        projection=projection,
        unprojection=unprojection,
    )
    cache = KVCache(num_layers=1, batch=1, num_heads=4, num_tokens=6 * num, head_dim=24, dtype=torch.float32)
    dit.prefill(context, cond, mask=None, cache=cache)
    for i, name in enumerate("kv"):
        ours_now = to_interleaved(cache.buffer[0, i])  # (1, 4, 48, 24): two rotary heads, then two camera heads
        wanted = golden[f"forward.kv.0.{name}"]  # (1, 2, 48, 48): rotary half, then camera half
        if wanted.shape[1] != 2:
            wanted = wanted.transpose(1, 2)
        torch.testing.assert_close(ours_now[:, :2], wanted[..., :24], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(ours_now[:, 2:], wanted[..., 24:], atol=2e-5, rtol=1e-4)
