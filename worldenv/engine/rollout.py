"""The one rollout function: environments, training and evaluation all generate chunks here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldenv_kernels import Reframing

from ..diffusion.sampler import sample_chunk
from ..diffusion.schedule import CONTEXT_TIMESTEP, SamplerConfig
from ..dynamics.signals import POSE_VIDEO, Track
from ..memory.context import Context, chunk_mask, condition, context_mask
from ..models.dit import WorldDiT
from ..models.kv_cache import Cache, GradientCache, KVCache, PagePool, PageTable
from ..models.paged_cache import PagedCache
from ..models.place import Place
from ..models.types import Conditioning, KeysValues, TextCache


@dataclass(frozen=True)
class Rendered:
    """What rendered memory knows of the latents to come (``engine.render``)."""

    latents: Tensor  # (B, F, C, h, w)
    known: Tensor  # (B, F, 1, h, w) float32: share of each cell's pixels that is known
    mask: Tensor  # (B, F, 1, h, w) float32: how much of the sampler's estimate is replaced there
    until: float = 0.0
    """Noise level down to which it is."""

    def repeat(self, count: int) -> Rendered:
        """Return the same with every row repeated ``count`` times in a row."""
        latents, known, mask = (x.repeat_interleave(count, 0) for x in (self.latents, self.known, self.mask))
        return Rendered(latents, known, mask, self.until)

    def only(
        self,
        rows: Tensor,  # (B,) bool
    ) -> Rendered:
        """Return the same with nothing known in the other rows."""
        keep = rows.to(self.known.device)[:, None, None, None, None]
        return Rendered(self.latents * keep, self.known * keep, self.mask * keep, self.until)

    def to(self, device: torch.device) -> Rendered:
        """Move it to a device."""
        return Rendered(self.latents.to(device), self.known.to(device), self.mask.to(device), self.until)

    def guide(
        self,
        x: Tensor,  # (B, F, C, h, w)
        velocity: Tensor,  # (B, F, C, h, w) at x
        timesteps: Tensor,  # (B, F)
    ) -> Tensor:
        """Return the velocity that leads to what is known, where it is, at high noise; elsewhere the same."""
        sigmas = (timesteps / 1000)[..., None, None, None]
        pull = self.mask * (sigmas >= self.until) / sigmas
        return velocity + pull * (x - sigmas * velocity - self.latents)


@dataclass(frozen=True)
class Prepared:
    """The context of a chunk, or of a window of chunks, encoded: what every evaluation of the network on it shares."""

    dit: WorldDiT
    now: Conditioning  # of the latents to come, their timesteps those of clean context
    mask: Tensor  # (B, F, S + F) bool
    cache: Cache
    text: TextCache | None
    place: Place | Reframing | None = None
    """Of all the latents; training leaves it to each evaluation, whose precision may vary."""
    rendered: Rendered | None = None

    def velocity(
        self,
        x: Tensor,  # (B, F, C, h, w)
        timesteps: Tensor,  # (B, F)
    ) -> Tensor:
        """Evaluate the network on the noisy latents, all of them or the first few; (B, F, C, h, w) float32."""
        now, mask = self._first(x.shape[1])
        place = self.place if x.shape[1] == self.mask.shape[1] else None
        cond = replace(now, timesteps=timesteps)
        render = None if self.rendered is None else (self.rendered.latents, self.rendered.known)
        return self.dit(x, cond, mask=mask, cache=self.cache, text=self.text, place=place, render=render)

    def _first(self, num_latents: int) -> tuple[Conditioning, Tensor]:
        """Return conditioning and mask of the first latents, which then see none of the others."""
        absent = self.mask.shape[1] - num_latents
        return self.now.select(0, num_latents), self.mask[:, :num_latents, : self.mask.shape[2] - absent]

    def repeat(self, count: int) -> Prepared:
        """Repeat every row, so that ``count`` noisy chunks attend to each context (training)."""
        assert isinstance(self.cache, GradientCache)
        assert self.text is None
        rendered = None if self.rendered is None else self.rendered.repeat(count)
        return replace(self, now=self.now.repeat(count), mask=self.mask.repeat_interleave(count, 0), rendered=rendered)

    def record(
        self,
        latents: Tensor,  # (B, F, C, h, w)
        timesteps: Tensor | None = None,  # (B, F) labels of noised latents (training); None is clean
    ) -> KeysValues:
        """Return the first chunk's own keys and values, for chunks to come that encode nothing anew."""
        now, mask = self._first(latents.shape[1])
        cond = now if timesteps is None else replace(now, timesteps=timesteps)
        return self.dit.record(latents, cond, mask=mask, cache=self.cache, text=self.text)


@dataclass(frozen=True)
class Staged:
    """What the network reads of a context and of the latents to come, on its device, before it is run.

    From here to a chunk's latents nothing is read back by the host, so that it can be recorded (``engine.capture``).
    """

    past: Conditioning  # (B, S)
    now: Conditioning  # (B, F), the timesteps those of clean context
    latents: Tensor | None  # (B, S, C, h, w), to be encoded, or
    recorded: KeysValues | PageTable | None  # what was recorded of them
    valid: Tensor  # (B, S) bool: filled slots, which the latents to come see
    full: bool  # whether all of them are known to be, for kernels that read pages
    sees: Tensor | None  # (B, S, S) bool: which latents of the context see which while they are encoded
    mask: Tensor  # (B, F, S + F) bool
    text: TextCache | None = None
    rendered: Rendered | None = None


def stage(
    dit: WorldDiT,
    context: Context,
    *,
    track: Track,  # each (B, F, ...) commanded, of the chunk or of a window of chunks
    K: Tensor,  # (3, 3) normalised
    unit: float,
    text: TextCache | None = None,
) -> Staged:
    """Condition a context and the latents to come, and bring them to the network's device."""
    device, num_slots, num_latents = dit.patch_embedding.weight.device, context.entry.shape[1], track.num_latents
    exact = dit.config.numerics == "reference"
    cameras = dit.dtype if exact else torch.float64
    whole = condition(context, track, K=K, unit=unit, cameras=cameras, grasp=dit.grasp)
    recorded, anew, causal = context.recorded, context.recorded is None, dit.config.causal_context
    seen = context.seen
    if isinstance(recorded, PageTable):
        recorded = replace(recorded, pages=recorded.pages.to(device))
    staged = Staged(
        past=to_device(whole.select(0, num_slots), device),
        now=to_device(whole.select(num_slots, num_slots + num_latents), device),
        latents=context.latents.to(device) if anew else None,
        recorded=recorded,
        valid=seen.to(device),
        full=dit.reads_pages and bool(seen.all()),
        sees=context_mask(context.entry, causal=causal, reach=context.reach).to(device) if anew else None,
        mask=chunk_mask(seen, num_latents).to(device),
        text=text,
    )
    return with_pose_video(staged, track[POSE_VIDEO]) if dit.config.pose_video else staged


def with_pose_video(
    staged: Staged,
    drawn: Tensor,  # (B, F, C, h, w): the robot alone, on its way through the latents to come
) -> Staged:
    """Put the pose video behind the context: clean latents at the times of those to come, each seeing itself alone."""
    assert staged.latents is not None, "kept keys and values have no place for a pose video"
    assert staged.sees is not None
    num_rows, slots, num_latents = len(drawn), staged.latents.shape[1], drawn.shape[1]
    there = staged.valid.new_ones(num_rows, num_latents)
    alone = torch.eye(num_latents, dtype=torch.bool, device=there.device).expand(num_rows, -1, -1)
    before, own = staged.mask.split([slots, num_latents], 2)
    return replace(
        staged,
        past=beside(staged.past, staged.now),
        latents=torch.cat([staged.latents, drawn.to(staged.latents)], 1),
        valid=torch.cat([staged.valid, there], 1),
        sees=torch.stack([torch.block_diag(*pair) for pair in zip(staged.sees, alone, strict=True)]).bool(),
        mask=torch.cat([before, torch.ones_like(own), own], 2),
    )


def beside(past: Conditioning, now: Conditioning) -> Conditioning:
    """Return the conditioning of [past | pose video], whose latents lie where ``now`` lies."""
    none, every = (torch.full_like(cond.positions, drawn, dtype=torch.bool) for cond, drawn in ((past, 0), (now, 1)))
    return replace(past, drawn=none).join(replace(now, drawn=every))


def encode(dit: WorldDiT, staged: Staged, cache: Cache, *, size: tuple[int, int]) -> Prepared:
    """Fill a cache with a context, for latents of ``size`` (h, w)."""
    _fill(cache, dit, staged, size)
    stepping = not isinstance(cache, GradientCache) and not torch.is_autocast_enabled(staged.mask.device.type)
    place = dit.place(staged.now, size, dit.dtype, cache) if stepping else None
    return Prepared(dit, staged.now, staged.mask, cache, staged.text, place, staged.rendered)


def _fill(cache: Cache, dit: WorldDiT, staged: Staged, size: tuple[int, int]) -> None:
    """Encode a context into a cache, or place what was recorded, or let it be read where it lies."""
    recorded, past = staged.recorded, staged.past
    if recorded is None:
        assert staged.latents is not None
        dit.prefill(staged.latents, past, mask=staged.sees, cache=cache, text=staged.text)
    elif not (isinstance(cache, PagedCache) and isinstance(recorded, PageTable)):
        recorded = recorded.gather() if isinstance(recorded, PageTable) else recorded
        dit.load(recorded, past, size=size, cache=cache)
    if isinstance(cache, PagedCache):
        cache.look(past, recorded, staged.valid, full=staged.full)


def prepare(
    dit: WorldDiT,
    context: Context,
    *,
    track: Track,  # each (B, F, ...) commanded, of the chunk or of a window of chunks
    latent_shape: tuple[int, int, int],
    K: Tensor,  # (3, 3) normalised
    unit: float,
    cache: Cache | None = None,
    text: TextCache | None = None,
    rendered: Rendered | None = None,
) -> Prepared:
    """Stage and encode a context.

    Without a cache one is made, where gradients are enabled one that lets them flow.
    """
    staged = stage(dit, context, track=track, K=K, unit=unit, text=text)
    staged = replace(staged, rendered=rendered)
    if cache is None:
        shape = (len(staged.mask), staged.mask.shape[2], *latent_shape)
        cache = GradientCache() if torch.is_grad_enabled() else new_cache(dit, shape, staged.mask.device)
    return encode(dit, staged, cache, size=latent_shape[1:])


def generate_chunk(
    prepared: Prepared,
    noise: Tensor,  # (B, F, C, h, w)
    sampler: SamplerConfig,
    *,
    renoise: Callable[[], Tensor] | None = None,
    known: Known | None = None,
    exit_step: int | None = None,
) -> Tensor:
    """Denoise the next chunk of latents against its context (WorldPlay, Algorithm 2); (B, F, C, h, w) float32.

    Latents that are ``known`` (a start view inside its chunk) are attended to like context and stay as they are.
    Gradients flow if the caller enables them; with ``exit_step`` through that step alone, whose x0 is returned.
    """

    def velocity(x: Tensor, timesteps: Tensor) -> Tensor:
        if known is not None:
            x, timesteps = known.fill(x), timesteps.masked_fill(known.mask, CONTEXT_TIMESTEP)
        found = prepared.velocity(x, timesteps)
        return found if prepared.rendered is None else prepared.rendered.guide(x, found, timesteps)

    exact = prepared.dit.config.numerics == "reference"
    start = noise.to(prepared.dit.dtype) if exact else noise
    latents = sample_chunk(velocity, start, sampler, renoise=renoise, exit_step=exit_step).float()
    return latents if known is None else known.fill(latents)


@dataclass(frozen=True)
class Known:
    """Latents of a chunk that are given."""

    mask: Tensor  # (B, F) bool
    latents: Tensor  # (B, F, C, h, w), read where the mask is set

    def fill(self, x: Tensor) -> Tensor:
        """Put the given latents into ``x``, (B, F, C, h, w)."""
        return torch.where(self.mask[..., None, None, None], self.latents.to(x.dtype), x)


def new_cache(dit: WorldDiT, shape: tuple[int, int, int, int, int], device: torch.device) -> KVCache:
    """Allocate keys and values for [context | chunk] of this shape, (B, S + F, C, h, w)."""
    config = dit.config
    batch, num_latents, _, height, width = shape
    return KVCache(
        num_layers=config.num_layers,
        batch=batch,
        num_heads=dit.num_heads * config.num_branches,
        num_tokens=num_latents * height * width // config.patch**2,
        head_dim=config.head_dim,
        dtype=dit.dtype,
        device=device,
    )


def new_pool(dit: WorldDiT, latent_shape: tuple[int, int, int], device: torch.device) -> PagePool:
    """Make an empty pool of pages for latents of this shape."""
    page = (dit.tokens(torch.empty(0, 0, *latent_shape)), dit.num_heads, dit.config.head_dim)
    return PagePool(dit.config.num_layers, page, dtype=dit.dtype, device=device)


def to_device(cond: Conditioning, device: torch.device) -> Conditioning:
    """Move conditioning to a device."""
    return cond.map(lambda part: part.to(device))
