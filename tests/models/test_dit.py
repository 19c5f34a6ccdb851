from dataclasses import replace

import pytest
import torch
from torch import nn

from worldenv.dynamics.signals import Track
from worldenv.geometry.action import label_to_keys
from worldenv.geometry.camera import intrinsics, normalise_intrinsics
from worldenv.geometry.pose import look
from worldenv.memory.context import Context, chunk_mask, condition, context_mask
from worldenv.models.dit import WorldDiT, patchify, unpatchify
from worldenv.models.kv_cache import KVCache
from worldenv.models.layers import RayEmbedding, grasp_offsets
from worldenv.models.prope import camera_projection
from worldenv.models.types import Conditioning, DiTConfig

CONFIG = DiTConfig(latent_channels=4, width=48, num_layers=3, num_heads=2, ffn_dim=64, freq_dim=32)
K = normalise_intrinsics(intrinsics(64, 48, fov_deg=90), width=64, height=48)
BATCH, SLOTS, CHUNK, ROWS, COLUMNS = 2, 5, 4, 4, 6
TOTAL = SLOTS + CHUNK


def make(config: DiTConfig = CONFIG, seed: int = 0) -> WorldDiT:
    """A transformer whose zero-initialised layers are random too."""
    torch.manual_seed(seed)
    dit = WorldDiT(config)
    for parameter in dit.parameters():
        nn.init.normal_(parameter, std=0.15)
    return dit.eval().requires_grad_(False)


def poses(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    position = torch.randn(BATCH, count, 3, generator=generator, dtype=torch.float64)
    yaw, pitch = torch.randn(2, BATCH, count, generator=generator, dtype=torch.float64)
    return look(position, yaw, 0.3 * pitch)


def cond_of(c2w: torch.Tensor, seed: int = 0) -> Conditioning:
    generator, count = torch.Generator().manual_seed(seed), c2w.shape[1]
    projection, unprojection = camera_projection(c2w.float(), K)
    return Conditioning(
        timesteps=1000 * torch.rand(BATCH, count, generator=generator),
        labels=torch.randint(0, 81, (BATCH, count), generator=generator),
        positions=torch.arange(count).expand(BATCH, -1),
        projection=projection,
        unprojection=unprojection,
    )


def other_keys(cond: Conditioning) -> Conditioning:
    """The same under other labels."""
    assert cond.labels is not None
    return replace(cond, labels=80 - cond.labels)


def track_of(c2w: torch.Tensor, label: int = 0) -> Track:
    """Latents with these poses, all under one label."""
    return Track(keys=label_to_keys(torch.full(c2w.shape[:2], label)), c2w=c2w)


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(BATCH, count, 4, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def dit() -> WorldDiT:
    return make()


def test_patchify_round_trip_and_channel_order() -> None:
    latents = noise(3)
    tokens = patchify(latents, 2)
    assert tokens.shape == (BATCH, 3, 6, 16)
    assert torch.equal(unpatchify(tokens, 2, rows=2, columns=3), latents)
    # Token (row 1, column 2), channels (ph, pw, C) with C fastest.
    assert torch.equal(tokens[0, 1, 5], latents[0, 1, :, 2:4, 4:6].permute(1, 2, 0).flatten())


def test_a_fresh_transformer_is_blind_to_cameras_and_keys() -> None:
    """The dual action starts without effect: zero-initialised projection and embedder."""
    torch.manual_seed(0)
    fresh = WorldDiT(CONFIG).requires_grad_(False)
    nn.init.normal_(fresh.proj_out.weight)
    x, one, other = noise(4), cond_of(poses(4)), cond_of(poses(4, 1))
    out = fresh(x, one)
    assert out.abs().max() > 0.1
    assert torch.equal(out, fresh(x, replace(one, projection=other.projection, unprojection=other.unprojection)))
    assert torch.equal(out, fresh(x, other_keys(one)))
    assert not torch.equal(out, fresh(x, replace(one, timesteps=1000 - one.timesteps)))


def test_tokens_know_their_place_in_the_picture(dit: WorldDiT) -> None:
    """A constant picture gives every token the same answer, unless absolute positions enter."""
    flat, cond = torch.ones(BATCH, 1, 4, ROWS, COLUMNS), cond_of(poses(1))
    without = make(replace(CONFIG, position_embedding=False))
    tokens = patchify(without(flat, cond), 2)
    assert torch.allclose(tokens, tokens[:, :, :1].expand_as(tokens), atol=1e-5)
    tokens = patchify(dit(flat, cond), 2)
    assert (tokens[:, :, :1] - tokens[:, :, 1:]).abs().amax((0, 1, 3)).min() > 1e-2


def test_a_fresh_transformer_predicts_zero() -> None:
    assert not WorldDiT(CONFIG)(noise(2), cond_of(poses(2))).any()


def test_cameras_and_keys_matter_once_trained(dit: WorldDiT) -> None:
    x, one, other = noise(4), cond_of(poses(4)), cond_of(poses(4, 1))
    out = dit(x, one)
    moved = dit(x, replace(one, projection=other.projection, unprojection=other.unprojection))
    assert (out - moved).abs().max() > 1e-3
    assert (out - dit(x, other_keys(one))).abs().max() > 1e-3


@pytest.mark.parametrize("branch", ["camera_branch", "key_branch"])
def test_branches_can_be_left_out(branch: str) -> None:
    dit = make(replace(CONFIG, **{branch: False}))
    x, one, other = noise(2), cond_of(poses(2)), cond_of(poses(2, 1))
    moved = replace(one, projection=other.projection, unprojection=other.unprojection)
    changed = other_keys(one) if branch == "key_branch" else moved
    assert torch.equal(dit(x, one), dit(x, changed))
    assert dit(x, one).shape == x.shape


def context_of(entry: list[list[int]]) -> Context:
    """A context of SLOTS latents with these entries."""
    track = Track(keys=label_to_keys(torch.arange(SLOTS)).expand(BATCH, -1, -1), c2w=poses(SLOTS, 3))
    return Context(noise(SLOTS, 7), track, torch.tensor(entry))


def run_cached(dit: WorldDiT, context: Context, x: torch.Tensor, cond: Conditioning, cache: KVCache) -> torch.Tensor:
    dit.prefill(context.latents, cond.select(0, SLOTS), mask=context_mask(context.entry), cache=cache)
    return dit(x, cond.select(SLOTS, TOTAL), mask=chunk_mask(context.valid, CHUNK), cache=cache)


def new_cache(heads: int = 4) -> KVCache:
    return KVCache(num_layers=3, batch=BATCH, num_heads=heads, num_tokens=TOTAL * 6, head_dim=24, dtype=torch.float32)


@pytest.mark.parametrize("entry", [[[0, 1, 1, 2, 2], [3, 3, 7, 7, 7]], [[-1, -1, 0, 1, 1], [-1, -1, -1, -1, 0]]])
def test_cached_forward_equals_one_full_forward(dit: WorldDiT, entry: list[list[int]]) -> None:
    context, x = context_of(entry), noise(CHUNK, 8)
    cond = condition(context, track_of(poses(CHUNK, 4), 9), K=K, unit=1.0)
    cond.timesteps[:, SLOTS:] = 700.0
    causal = torch.cat([context_mask(context.entry), torch.zeros(BATCH, SLOTS, CHUNK, dtype=torch.bool)], 2)
    mask = torch.cat([causal, chunk_mask(context.valid, CHUNK)], 1)
    whole = dit(torch.cat([context.latents, x], 1), cond, mask=mask)[:, SLOTS:]
    cache = new_cache()
    torch.testing.assert_close(run_cached(dit, context, x, cond, cache), whole, atol=1e-5, rtol=1e-5)
    # A second denoising step overwrites the first one's keys: it equals a step that came first.
    now, other = cond.select(SLOTS, TOTAL), noise(CHUNK, 9)
    mask = chunk_mask(context.valid, CHUNK)
    dit(other, now, mask=mask, cache=cache)
    torch.testing.assert_close(dit(x, now, mask=mask, cache=cache), whole, atol=1e-5, rtol=1e-5)


def test_prefill_forgets_the_context_before(dit: WorldDiT) -> None:
    cond = condition(context_of([[0, 1, 1, 2, 2]] * 2), track_of(poses(CHUNK)), K=K, unit=1.0)
    context, x, cache = context_of([[0, 1, 1, 2, 2]] * 2), noise(CHUNK), new_cache()
    run_cached(dit, replace(context, latents=noise(SLOTS, 99)), x, cond, cache)
    assert torch.equal(run_cached(dit, context, x, cond, cache), run_cached(dit, context, x, cond, new_cache()))


def test_empty_slots_have_no_influence(dit: WorldDiT) -> None:
    context, x = context_of([[-1, -1, 0, 1, 1], [-1, 0, 1, 1, 2]]), noise(CHUNK)
    cond = condition(context, track_of(poses(CHUNK)), K=K, unit=1.0)
    out = run_cached(dit, context, x, cond, new_cache())
    empty = ~context.valid[:, :, None, None, None]
    stuffed = replace(context, latents=torch.where(empty, torch.full_like(context.latents, 50.0), context.latents))
    torch.testing.assert_close(run_cached(dit, stuffed, x, cond, new_cache()), out, atol=1e-5, rtol=0)
    full = replace(context, latents=torch.where(~empty, context.latents + 1, context.latents))
    assert (run_cached(dit, full, x, cond, new_cache()) - out).abs().max() > 1e-3


def test_the_future_has_no_influence_under_a_causal_mask(dit: WorldDiT) -> None:
    x, cond = noise(4), cond_of(poses(4))
    mask = context_mask(torch.tensor([[0, 0, 1, 1]]))
    later = x.clone()
    later[:, 2:] += 1
    out, changed = dit(x, cond, mask=mask), dit(later, cond, mask=mask)
    torch.testing.assert_close(out[:, :2], changed[:, :2], atol=1e-6, rtol=0)
    assert (out[:, 2:] - changed[:, 2:]).abs().max() > 1e-3


def test_a_rigid_change_of_the_world_frame_changes_nothing(dit: WorldDiT) -> None:
    x, c2w = noise(4), poses(4)
    frame = look(*(torch.tensor(v, dtype=torch.float64) for v in ([2.0, -1, 3], 1.3, 0.6)))
    out = dit(x, cond_of(c2w))
    torch.testing.assert_close(dit(x, cond_of(frame @ c2w)), out, atol=2e-4, rtol=1e-4)
    assert (dit(x, cond_of(torch.linalg.inv(c2w))) - out).abs().max() > 1e-2


def test_a_common_offset_of_positions_changes_nothing(dit: WorldDiT) -> None:
    x, cond = noise(4), cond_of(poses(4))
    out = dit(x, cond)
    torch.testing.assert_close(dit(x, replace(cond, positions=cond.positions + 37)), out, atol=1e-5, rtol=1e-4)
    assert (dit(x, replace(cond, positions=3 * cond.positions)) - out).abs().max() > 1e-4


def test_batch_rows_are_independent(dit: WorldDiT) -> None:
    x, cond = noise(3), cond_of(poses(3))
    other = x.clone()
    other[1] += 1
    assert torch.equal(dit(x, cond)[0], dit(other, cond)[0])
    alone = cond.map(lambda part: part[1:])
    torch.testing.assert_close(dit(x[1:], alone)[0], dit(x, cond)[1], atol=1e-5, rtol=1e-5)


def test_bad_head_sizes_are_refused_with_a_fix() -> None:
    with pytest.raises(ValueError, match="multiple of 12"):
        DiTConfig(width=50, num_heads=3)


def test_rays_tell_where_a_camera_looks_and_begin_as_nothing() -> None:
    plain = replace(CONFIG, camera_branch=False)
    torch.manual_seed(0)
    fresh = WorldDiT(replace(plain, camera_rays=True))
    nn.init.normal_(fresh.proj_out.weight)
    without = WorldDiT(plain)
    without.load_state_dict({k: v for k, v in fresh.state_dict().items() if not k.startswith("ray_")})
    here, there = cond_of(poses(TOTAL)), cond_of(poses(TOTAL, seed=1))
    x = noise(TOTAL)
    torch.testing.assert_close(fresh(x, here), without(x, here))
    trained = make(replace(plain, camera_rays=True))
    assert (trained(x, here) - trained(x, there)).abs().max() > 1e-3
    torch.testing.assert_close(without(x, here), without(x, there))


def test_what_moves_with_the_grasp_looks_alike_from_there() -> None:
    """A grasp one token further right and down: every token's features are those of its neighbour before."""
    here = torch.tensor([[[0.1, -0.3], [0.4, 0.2]]])  # (1, 2, 2)
    there = here + torch.tensor([0.5, 2 / 3])
    before, after = (grasp_offsets(grasp, 3, 4).unflatten(2, (3, 4)) for grasp in (here, there))
    assert before.shape == (1, 2, 3, 4, 22)
    torch.testing.assert_close(after[:, :, 1:, 1:], before[:, :, :-1, :-1], atol=1e-5, rtol=1e-5)
    assert (after[:, :, 1:, 1:] - before[:, :, 1:, 1:]).abs().max() > 0.1
    with pytest.raises(ValueError, match="set pose_video = true too"):
        DiTConfig(grasp_offsets=True)


def test_rays_are_pluecker_coordinates() -> None:
    embedder = RayEmbedding(8)
    seen: list[torch.Tensor] = []
    embedder.linear_1.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    c2w = poses(1)
    _, unprojection = camera_projection(c2w.float(), K)
    embedder(unprojection, 1, 1)
    moments, rays = seen[0].unflatten(-1, (4, 6))[:, 0, 0].split(3, -1)  # (B, 4, 3) each
    torch.testing.assert_close(rays.norm(dim=-1), torch.ones(BATCH, 4))
    origin = c2w[:, 0, None, :3, 3].float()
    torch.testing.assert_close(moments, torch.linalg.cross(origin.expand_as(rays), rays))
    middle = torch.nn.functional.normalize(rays.mean(1), dim=-1)
    torch.testing.assert_close(middle, c2w[:, 0, :3, 2].float(), atol=1e-5, rtol=1e-5)  # they surround the axis


def test_what_is_computed_anew_gives_the_same_gradients() -> None:
    gradients, kept = [], []
    for recompute in (False, True):
        dit, cond = make().train().requires_grad_(True), cond_of(poses(CHUNK))
        for block in dit.blocks:
            block.recompute = recompute  # type: ignore[assignment]
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            loss = dit(noise(CHUNK), cond).square().mean()
        loss.backward()
        gradients.append([p.grad for p in dit.parameters() if p.grad is not None])
        kept.append(sum(sizes))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert kept[1] < kept[0]
