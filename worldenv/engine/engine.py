"""The engine: a generated world as ``Dynamics``, a batch of envs advancing in lockstep, one chunk per step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..base.dynamics import Actions, Chunk, WorldSpec
from ..base.rng import RowGenerators, derive_seed, draw_start
from ..diffusion.schedule import SamplerConfig
from ..geometry.action import c2w_to_keys, keys_to_label
from ..geometry.camera import normalise_intrinsics
from ..memory.bank import MemoryBank
from ..memory.context import Context, MemoryConfig, Selection, gather, num_slots, select
from ..models.kv_cache import KVCache
from ..models.vae import VAECache, to_frames, to_pixels
from .rollout import generate_chunk, new_cache
from .world import World


@dataclass
class EngineState:
    """Everything that a batch of episodes consists of."""

    bank: MemoryBank
    decoder: VAECache
    generators: RowGenerators
    seeds: list[int]
    frames: Tensor  # (B, H, W, 3) uint8: newest frame


class Engine:
    """Steps B episodes of one world.

    Row b depends on its own seed, start and actions alone; rows reset at chunk borders, by mask.
    """

    def __init__(
        self,
        world: World,
        num_envs: int,
        *,
        memory: MemoryConfig | None = None,
        sampler: SamplerConfig | None = None,
        chunk_latents: int | None = None,
        decode: bool = True,
    ) -> None:
        self.world, self.num_envs, self.decode = world, num_envs, decode
        self.spec: WorldSpec = replace(world.spec, chunk_latents=chunk_latents or world.spec.chunk_latents)
        self.memory = memory or world.config.memory
        self.sampler = sampler or world.config.sampler
        self.device = world.vae.latent_mean.device
        self.K = normalise_intrinsics(self.spec.K, width=self.spec.width, height=self.spec.height)
        self.selection: Selection | None = None
        self.edit_context: Callable[[Context], Context] | None = None  # what-if experiments of the evaluation
        self._cache: KVCache | None = None
        self._state = EngineState(
            bank=MemoryBank.empty(num_envs, world.latent_shape),
            decoder=VAECache(),
            generators=RowGenerators(num_envs),
            seeds=[0] * num_envs,
            frames=torch.zeros(num_envs, self.spec.height, self.spec.width, 3, dtype=torch.uint8),
        )

    @property
    def c2w(self) -> Tensor:
        """Current pose of each env, (B, 4, 4) float64."""
        bank = self._state.bank
        return bank.c2w[torch.arange(self.num_envs), bank.length - 1]

    @property
    def memory_chunks(self) -> Tensor:
        """Entries each env remembers, (B,) int64."""
        return (self._state.bank.length - 1) // self.spec.chunk_latents + 1

    def reset(
        self,
        *,
        seeds: Sequence[int],
        starts: Sequence[int | None],
        mask: Tensor | None = None,  # (B,) bool
        images: Tensor | None = None,  # (B, H, W, 3) uint8: start from these pictures instead
        c2w: Tensor | None = None,  # (B, 4, 4): at these poses (default: the origin, looking ahead)
    ) -> Chunk:
        """Begin episodes from start views of the world, or from pictures."""
        rows = torch.arange(self.num_envs) if mask is None else mask.nonzero()[:, 0]
        if images is not None:
            frames = images[rows]
            c2w = torch.eye(4, dtype=torch.float64).repeat(len(rows), 1, 1) if c2w is None else c2w[rows]
        else:
            views = self.world.require_starts()
            index = torch.tensor([draw_start(len(views), seeds[r], starts[r]) for r in rows.tolist()], dtype=torch.long)
            frames, c2w = views.frames[index], views.c2w[index]
        self._begin(rows, frames, c2w, [seeds[r] for r in rows.tolist()])
        return Chunk(self._state.frames[:, None].clone(), self.c2w[:, None])

    @torch.no_grad()
    def _begin(self, rows: Tensor, frames: Tensor, c2w: Tensor, seeds: list[int]) -> None:
        state, vae = self._state, self.world.vae
        pixels = to_pixels(frames)[:, None].to(self.device, vae.dtype)
        latents = torch.cat([vae.encode(row[None]) for row in pixels])  # one by one: equal in any batch
        state.bank.clear(rows)
        state.bank.append(rows, latents, c2w[:, None], torch.zeros(len(rows), 1, dtype=torch.long))
        for row, seed in zip(rows.tolist(), seeds, strict=True):
            state.seeds[row] = seed
            state.generators.seed(row, derive_seed(seed, "noise"))
        state.frames[rows] = frames
        if self.decode:
            fresh = VAECache()
            vae.decode(latents, fresh)
            if len(rows) == self.num_envs:
                state.decoder = fresh
            else:
                state.decoder.write(rows.to(self.device), fresh)

    def step(self, actions: Actions) -> Chunk:
        """Generate the next chunk of every env and decode it."""
        frames = list(self.stream(actions))
        c2w = actions.c2w.clone()
        if not self.decode:
            return Chunk(self._state.frames[:, None].clone(), c2w)
        return Chunk(torch.cat(frames, 1), c2w)

    @torch.no_grad()
    def stream(self, actions: Actions) -> Iterator[Tensor]:
        """Generate the next chunk and yield its frames as they are decoded, (B, 4, H, W, 3) uint8 per latent.

        The iterator must be exhausted before the next call.
        """
        state, latents = self._state, self.generate(actions)
        if not self.decode:
            return
        for pixels in self.world.vae.decode_stream(latents, state.decoder):
            frames = to_frames(pixels).cpu()
            state.frames = frames[:, -1].clone()
            yield frames

    @torch.no_grad()
    def generate(self, actions: Actions) -> Tensor:
        """Generate and remember the next chunk's latents, (B, F, C, h, w)."""
        state, chunk = self._state, self.spec.chunk_latents
        labels = keys_to_label(actions.keys)
        self.selection = select(state.bank, actions.c2w, self.memory, chunk_latents=chunk, seeds=state.seeds)
        context = gather(state.bank, self.selection.index, chunk_latents=chunk)
        if self.edit_context is not None:
            context = self.edit_context(context)
        rows = range(self.num_envs)
        shape = (chunk, *self.world.latent_shape)
        noise = state.generators.normal(rows, shape).to(self.device)
        if self._cache is None:
            self._cache = new_cache(self.world.dit, noise, num_slots(self.memory, chunk))
        latents = generate_chunk(
            self.world.dit, context, c2w=actions.c2w, labels=labels, noise=noise, K=self.K, unit=self.spec.unit,
            sampler=self.sampler, cache=self._cache,
            renoise=lambda: state.generators.normal(rows, shape).to(self.device),
        )  # fmt: skip
        state.bank.append(torch.arange(self.num_envs), latents, actions.c2w, labels)
        return latents

    def newest_latents(self) -> Tensor:
        """Return the latents of the newest chunk, (B, F, C, h, w) float32; after a reset latent 0, repeated."""
        bank, chunk = self._state.bank, self.spec.chunk_latents
        index = (bank.length[:, None] - chunk + torch.arange(chunk)).clamp(min=0)
        return bank.latents[torch.arange(self.num_envs)[:, None], index]

    def follow(
        self,
        c2w: Tensor,  # (B, F, 4, 4)
    ) -> Chunk:
        """Generate along exactly this path; keys are read off the motion. F is a multiple of the chunk."""
        chunk, parts = self.spec.chunk_latents, []
        if c2w.shape[1] % chunk:
            raise ValueError(f"a path of {c2w.shape[1]} latents is not a multiple of chunk_latents={chunk}")
        for poses in c2w.split(chunk, 1):
            parts.append(self.step(Actions(self.path_keys(poses), poses)))
        return Chunk(torch.cat([p.frames for p in parts], 1), c2w)

    def path_keys(
        self,
        c2w: Tensor,  # (B, F, 4, 4)
    ) -> Tensor:
        """Label a path that starts at the current poses; (B, F, 2). Motion below a tenth of a step is no key."""
        steps = self.spec.steps
        path = torch.cat([self.c2w[:, None], c2w], 1)
        return c2w_to_keys(path, move_threshold=0.1 * steps.move, turn_threshold_deg=0.1 * steps.turn_deg)

    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows as a dictionary of tensors, each with a leading row axis."""
        state, index = self._state, torch.tensor(list(rows))
        longest = int(state.bank.length[index].max())
        tensors = {
            "latents": state.bank.latents[index, :longest],
            "c2w": state.bank.c2w[index, :longest],
            "labels": state.bank.labels[index, :longest],
            "length": state.bank.length[index],
            "seeds": torch.tensor([state.seeds[r] for r in rows], dtype=torch.long),
            "generators": torch.stack([state.generators.state(r) for r in rows]),
            "frames": state.frames[index],
        }
        tensors |= {f"decoder.{i:02d}": t[index.to(t.device)] for i, t in enumerate(state.decoder.tensors)}
        return {key: value.clone() for key, value in tensors.items()}

    def restore_state(self, tensors: dict[str, Tensor], rows: Sequence[int]) -> None:
        """Continue cloned episodes in these rows, exactly as they would have gone on."""
        state, index = self._state, torch.tensor(list(rows))
        state.bank.clear(index)
        longest = tensors["latents"].shape[1]
        state.bank.append(index, tensors["latents"], tensors["c2w"], tensors["labels"])
        assert longest >= int(tensors["length"].max())
        state.bank.length[index] = tensors["length"]
        for i, row in enumerate(rows):
            state.seeds[row] = int(tensors["seeds"][i])
            state.generators.restore(row, tensors["generators"][i])
        state.frames[index] = tensors["frames"]
        saved = VAECache([tensors[key] for key in sorted(tensors) if key.startswith("decoder.")])
        if saved.tensors and not state.decoder.tensors:
            state.decoder = VAECache([t.new_zeros(self.num_envs, *t.shape[1:]) for t in saved.tensors])
        if saved.tensors:
            state.decoder.write(index.to(self.device), saved)


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32."""
    if device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return torch.float32


def resolve_device(name: str) -> torch.device:
    """Turn ``auto`` into the best device there is."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}; choose auto, cpu, cuda or cuda:N") from None
