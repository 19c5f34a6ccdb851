import dataclasses

import pytest
import torch
from torch import nn

from tests.conftest import note_positions
from worldenv.data.dataset import LatentDataset
from worldenv.dynamics.signals import Track
from worldenv.geometry.action import camera_to_c2w, keys_to_camera, keys_to_label
from worldenv.memory.config import MemoryConfig
from worldenv.memory.context import Context, chunk_mask, condition, context_mask
from worldenv.models.types import Conditioning
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.stages.memory import MemoryStage
from worldenv.training.stages.window import WindowStage
from worldenv.training.windows import draw_windows, window_loss
from worldenv.world.world import World

LATENTS = 25


def dataset(world: World, need: float = 0.5) -> LatentDataset:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(0, 9, (3, LATENTS - 1, 2), generator=generator)
    start = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    c2w = torch.cat([start[:, None], camera_to_c2w(keys_to_camera(keys), start, world.spec.steps)], 1)
    track = Track(keys=torch.cat([torch.zeros(3, 1, 2).long(), keys], 1), c2w=c2w)
    latents = torch.randn(3, LATENTS, *world.latent_shape, generator=generator).half()
    return LatentDataset(latents, track, torch.full((3, LATENTS), need))


def stage_of(world: World, **config: object) -> MemoryStage:
    return MemoryStage(Material(world, DenoiseConfig(**config), 3, data=dataset(world)))  # type: ignore[arg-type]


def test_draws_see_the_context_and_themselves(tiny_world: World) -> None:
    """M draws against one encoding of the context equal M dense forwards of context and draw."""
    dit, slots, chunk, draws = tiny_world.dit, 5, 4, 3
    stage = stage_of(tiny_world, draws=draws)
    generator = torch.Generator().manual_seed(1)
    entry = torch.tensor([[-1, 0, 2, 2, 3], [0, 1, 1, 1, 1]])
    data = stage.material.data
    track = data.track.at(slice(2))
    context = Context(data.latents[:2, :slots].float(), track.part(slice(slots)), entry)
    target = Context(data.latents[:2, 9:13].float(), track.part(slice(9, 13)), entry[:, :4])
    noisy = torch.randn(2 * draws, chunk, *tiny_world.latent_shape, generator=generator)
    timesteps = 1000 * torch.rand(2 * draws, 1, generator=generator).expand(-1, chunk)
    out = stage.chunks.encode(dit, context, target).velocity(noisy, timesteps)

    cond = condition(context, target.track, K=stage.material.K, unit=1.0)
    top = torch.cat([context_mask(entry), torch.zeros(2, slots, chunk, dtype=torch.bool)], 2)
    mask = torch.cat([top, chunk_mask(context.valid, chunk)], 1)
    for draw in range(draws):
        rows = torch.arange(2) * draws + draw
        alone = dataclasses.replace(cond, timesteps=torch.cat([cond.timesteps[:, :slots], timesteps[rows]], 1))
        wanted = dit(torch.cat([context.latents, noisy[rows]], 1), alone, mask=mask)[:, slots:]
        torch.testing.assert_close(out[rows], wanted, atol=1e-5, rtol=1e-5)


def test_losses_follow_from_the_generator(tiny_world: World) -> None:
    for stage in (
        stage_of(tiny_world),
        WindowStage(Material(tiny_world, DenoiseConfig(), 3, data=dataset(tiny_world)), causal=True),
    ):
        values = [float(stage.loss(torch.Generator().manual_seed(s))[0]) for s in (4, 4, 5)]
        assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("causal", [True, False])
def test_a_perfect_network_has_no_loss(tiny_world: World, monkeypatch: pytest.MonkeyPatch, causal: bool) -> None:
    """The target is noise - x0: a network told both gives zero; latent 0 is clean context and does not count."""
    stage = stage_of(tiny_world)
    seen = {}

    class Oracle(nn.Module):
        patch_embedding = nn.Linear(1, 1)

        def forward(
            self, x: torch.Tensor, cond: Conditioning, mask: object = None, render: object = None
        ) -> torch.Tensor:
            seen["timesteps"], seen["mask"] = cond.timesteps, mask
            answer = seen["target"].clone()
            answer[:, 0] = 1e6
            return answer

    from worldenv.training import windows

    def spy(x0: torch.Tensor, noise: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        seen["target"], seen["sigmas"] = noise - x0, sigmas
        return x0

    monkeypatch.setattr(windows, "add_noise", spy)
    oracle = Oracle()
    monkeypatch.setattr(Material, "module", property(lambda _: oracle))
    loss = window_loss(stage.material, torch.Generator().manual_seed(0), causal=causal)
    assert float(loss) == 0
    sigmas, chunk = seen["sigmas"], stage.material.chunk
    assert (sigmas[:, 0] == 0).all()
    assert (seen["timesteps"][:, 0] == 14).all()
    per_chunk = sigmas[:, 1:].unflatten(1, (-1, chunk))
    assert (per_chunk == per_chunk[..., :1]).all()
    assert (len(set(per_chunk[0, :, 0].tolist())) > 1) == causal
    assert (seen["mask"] is not None) == causal


def test_targets_come_from_chunks_that_need_memory(tiny_world: World) -> None:
    data = dataset(tiny_world)
    data.need[:] = 0
    data.need[1, 17:21] = 1.0  # clip 1, entry 5
    stage = MemoryStage(Material(tiny_world, DenoiseConfig(necessary=1.0), 8, data=data))
    assert stage.chunks.needed.tolist() == [[1, 5]]
    bank, target, _ = stage.chunks.targets(torch.Generator().manual_seed(0))
    assert torch.equal(target.latents, data.latents[1, 17:21].float().expand(8, -1, -1, -1, -1))
    assert bank.length.tolist() == [17] * 8
    for wrong in (2.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=f"necessary={wrong} must lie between 0 and 1"):
            DenoiseConfig(necessary=wrong)
    assert torch.equal(bank.latents_at(torch.arange(17).expand(8, -1))[0], data.latents[1, :17])


def test_contexts_of_recorded_chunks_are_those_that_are_chosen_one_by_one(tiny_world: World) -> None:
    stage = stage_of(tiny_world)
    bank, target, _ = stage.chunks.targets(torch.Generator().manual_seed(5))
    pick, seeds = stage.chunks.draw_policies(len(bank.length), torch.Generator().manual_seed(6))
    assert bank.order is not None
    places = (bank.order, target.entry[:, 0])
    found = stage.chunks.choose(bank, target.track, pick, seeds, places=places)
    assert torch.equal(found, stage.chunks.choose(bank, target.track, pick, seeds))
    assert len(pick.unique()) > 1


def test_history_ends_where_the_target_begins(tiny_world: World) -> None:
    stage = stage_of(tiny_world)
    bank, target, _ = stage.chunks.targets(torch.Generator().manual_seed(3))
    keys = stage.material.data.track["keys"]
    for row in range(3):
        first = stage.material.chunk * (int(target.entry[row, 0]) - 1) + 1
        assert int(bank.length[row]) == first
        clip = next(c for c in range(3) if torch.equal(keys[c, first : first + 4], target.track["keys"][row]))
        assert torch.equal(bank.c2w[row, :first], stage.material.data.track["c2w"][clip, :first])
        context = stage.chunks.context(bank, target, torch.Generator().manual_seed(0))
        assert int(context.entry[row].max()) < int(target.entry[row, 0]), "the target is not its own context"


def test_context_noise_is_one_level_per_entry_within_the_range(tiny_world: World) -> None:
    stage = stage_of(tiny_world, clean_context=0.0, context_noise=(0.1, 0.3))
    entry = torch.tensor([[-1, 0, 2, 2, 2, 2, 5, 5]]).repeat(64, 1)
    track = Track(c2w=torch.eye(4).repeat(64, 8, 1, 1))
    context = Context(torch.zeros(64, 8, *tiny_world.latent_shape), track, entry)
    noised = stage.chunks.noised(context, torch.Generator().manual_seed(0))
    assert noised.timesteps is not None
    levels = noised.timesteps / 1000
    assert ((levels >= 0.1) & (levels <= 0.3)).all()
    assert (levels[:, 2:6] == levels[:, 2:3]).all()
    assert (levels[:, 6] == levels[:, 7]).all()
    assert (levels[:, 2] != levels[:, 6]).all()
    spread = noised.latents.flatten(2).std(2)
    torch.testing.assert_close(spread, levels, atol=0.06, rtol=0.3)
    clean = stage_of(tiny_world, clean_context=1.0).chunks.noised(context, torch.Generator().manual_seed(0))
    assert clean.timesteps is not None
    assert (clean.timesteps == 14).all()
    assert torch.equal(clean.latents, context.latents)


def test_labels_are_dropped_for_whole_samples(tiny_world: World) -> None:
    stage = stage_of(tiny_world, label_dropout=0.5)
    track = Track(keys=torch.tensor([1, 0]).expand(200, 6, 2), c2w=torch.eye(4).expand(200, 6, 4, 4))
    left = stage.material.drop_labels(track, torch.Generator().manual_seed(0))
    assert torch.equal(left["c2w"], track["c2w"]), "wherever their cameras go"
    dropped = keys_to_label(left["keys"])
    assert set(dropped.sum(1).tolist()) == {0, 54}
    assert 60 < int((dropped[:, 0] == 0).sum()) < 140


def test_windows_are_chunk_aligned(tiny_world: World) -> None:
    stage = stage_of(tiny_world)
    stage.material.batch = 64
    drawn = draw_windows(stage.material, 2, torch.Generator().manual_seed(0))
    bank, happened = drawn.bank, drawn.happened
    assert bank.latents.shape[:2] == (64, 9)
    starts = set()
    for row in range(64):
        match = [
            (c, s)
            for c in range(3)
            for s in range(LATENTS - 8)
            if torch.equal(bank.c2w[row, :9], stage.material.data.track["c2w"][c, s : s + 9])
        ]
        starts |= {s for _, s in match}
    assert starts == {0, 4, 8, 12, 16}
    assert bool(happened.all())


def test_windows_stay_within_an_episode(tiny_world: World) -> None:
    """Rows end after 9, 14 and 5 latents: windows of 9 begin where they fit, and say what lies beyond the end."""
    stage = stage_of(tiny_world)
    stage.material.batch, data = 64, stage.material.data
    lengths = torch.tensor([9, 14, 5])
    stage.material.data = dataclasses.replace(data, length=lengths)
    drawn = draw_windows(stage.material, 2, torch.Generator().manual_seed(0))
    bank, happened = drawn.bank, drawn.happened
    found = set()
    for row in range(64):
        clip, start = next(
            (c, s)
            for c in range(3)
            for s in range(LATENTS - 8)
            if torch.equal(bank.c2w[row, :9], data.track["c2w"][c, s : s + 9])
        )
        found.add((clip, start))
        assert int(happened[row].sum()) == min(9, int(lengths[clip]) - start)
    assert found == {(0, 0), (1, 0), (1, 4), (2, 0)}
    needed, every = stage.material.data.chunks(chunk_latents=4, need=0.0)
    assert sorted(map(tuple, every.tolist())) == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (2, 1)]
    assert len(needed) == len(every)


def test_positions_stay_absolute_in_training_without_reframing(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entry 5 is latents 17 to 20 of its clip: its context keeps the positions of 0, and of what else it holds."""
    memory = MemoryConfig(temporal_latents=4, retrieved_chunks=1, num_points=512, reframe=False)
    world = World(dataclasses.replace(tiny_world.config, memory=memory), vae=tiny_world.vae, dit=tiny_world.dit)
    data = dataset(world, need=0.0)
    data.need[1, 17:21] = 1.0
    config = DenoiseConfig(necessary=1.0, forcing=0.0, draws=2, policies=(("worldplay", 1.0),))
    stage = MemoryStage(Material(world, config, 2, data=data))
    seen = note_positions(monkeypatch)
    stage.loss(torch.Generator().manual_seed(0))
    context, chunk = seen
    assert chunk.tolist() == [[17, 18, 19, 20]] * 4
    assert context[:, 4:].tolist() == [[13, 14, 15, 16]] * 2
    entries = {(0, 0, 0, 0), *((4 * e - 3, 4 * e - 2, 4 * e - 1, 4 * e) for e in (1, 2, 3))}
    assert all(tuple(row) in entries for row in context[:, :4].tolist())
