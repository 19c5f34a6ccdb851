"""WorldDiT: a chunk-wise autoregressive diffusion transformer with dual actions (WorldPlay 3.1 to 3.3, figure 3).

Keys enter through a sinusoid and a zero-initialised MLP added to the timestep embedding, and so do further signals of
a few numbers, which other bodies command; the camera enters through a second attention over the same q, k, v with PRoPE
and a zero-initialised projection, and, where it is asked for, through the rays of tokens (WorldScape). A robot's pose
video stands beside the latents as clean ones of its own segment (WorldScape); tokens may know how far off its grasp is,
and attend to each other as they lie seen from there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldenv_kernels import Reframing

from .backend import BACKENDS, Backend, resolve_backend
from .block import Block
from .kv_cache import Cache
from .layers import (
    GRASP_OCTAVES,
    CodeEmbedding,
    EmbeddingMLP,
    PositionEmbedding,
    RayEmbedding,
    TextEmbedding,
    grasp_offsets,
    modulate,
)
from .place import Place
from .ranks import Ranks, RanksCache
from .types import Conditioning, DiTConfig, KeysValues, Render, TextCache


class WorldDiT(nn.Module):
    """Predicts the velocity of noisy latents given actions, cameras and context."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config, self.backend = config, "auto"
        self.ranks: Ranks | None = None  # the processes that compute this model together; they take no gradients
        width, patch_dim = config.width, config.latent_channels * config.patch**2
        self.patch_embedding = nn.Linear(patch_dim, width)
        self.render_embedding: nn.Linear | None = None
        if config.render_input:
            self.render_embedding = nn.Linear(patch_dim + config.patch**2, width, bias=False)
            nn.init.zeros_(self.render_embedding.weight)
        self.position_embedder = PositionEmbedding(width) if config.position_embedding else None
        self.ray_embedder = RayEmbedding(width) if config.camera_rays else None
        self.grasp_embedder = CodeEmbedding(2 + 4 * GRASP_OCTAVES, width) if config.grasp_offsets else None
        self.grasp: Callable[[Tensor], Tensor] | None = None
        """Tells where a robot's grasp is in the picture, (B, F, 2), at joints (B, F, J); given by the world, which
        knows the robot."""
        self.pose_embedding = nn.Parameter(torch.zeros(width)) if config.pose_video else None
        self.time_embedder = EmbeddingMLP(config.freq_dim, width)
        self.action_embedder = EmbeddingMLP(config.freq_dim, width, zero_init=True) if config.key_branch else None
        self.text_embedder = TextEmbedding(config.text_dim, width) if config.text_dim else None
        self.time_proj = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) * width**-0.5)
        self.proj_out = nn.Linear(width, patch_dim)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        coded = {f"code_{name}": CodeEmbedding(count, width) for name, count in config.codes.items()}
        self.code_embedders = nn.ModuleDict(coded)  # the prefix keeps names apart from a module's own

    @property
    def reads_pages(self) -> bool:
        """Whether kernels attend to memory where it lies; they know no grasps, nor cameras that a release rounds."""
        device, head_dim = self.proj_out.weight.device, self.config.head_dim
        chosen = resolve_backend(self.backend, device=device, dtype=self.dtype, head_dim=head_dim)
        return chosen == "triton" and self.config.numerics == "clean" and not self.config.grasp_branch

    @property
    def heads(self) -> slice:
        """The heads whose keys and values are held here: all, or this process's share."""
        return slice(0, self.config.num_heads) if self.ranks is None else self.ranks.heads(self.config.num_heads)

    @property
    def num_heads(self) -> int:
        """How many that is."""
        return self.heads.stop - self.heads.start

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.proj_out.weight.dtype

    def forward(
        self,
        latents: Tensor,  # (B, F, C, h, w)
        cond: Conditioning,
        *,
        mask: Tensor | None = None,  # (B or 1, F, F_keys) bool: which latents each latent sees; None is all
        cache: Cache | None = None,
        text: TextCache | None = None,
        place: Place | Reframing | None = None,  # of ``cond``, if the caller kept it
        render: Render | None = None,  # what is known of these latents
    ) -> Tensor:
        """Return the velocity (noise - x0), (B, F, C, h, w) float32.

        With a cache these latents also see its first ``cache.length`` tokens; ``mask`` then covers cached latents
        first, then these.
        """
        return self._run(latents, cond, mask, cache, text, prefill=False, place=place, render=render)

    def prefill(
        self,
        latents: Tensor,  # (B, F, C, h, w)
        cond: Conditioning,
        *,
        mask: Tensor | None,  # (B or 1, F, F) bool
        cache: Cache,
        text: TextCache | None = None,
    ) -> None:
        """Write the context's keys and values into an empty cache; the last block stops after its keys and values."""
        cache.length = 0
        self._run(latents, cond, mask, cache, text, prefill=True)
        cache.length = latents.shape[1] * self.tokens(latents)

    def record(
        self,
        latents: Tensor,  # (B, F, C, h, w)
        cond: Conditioning,
        *,
        mask: Tensor | None,  # (B or 1, F, F_cached + F) bool
        cache: Cache,
        text: TextCache | None = None,
    ) -> KeysValues:
        """Return the keys and values of latents that also see a cache, each (L, B, F, S, N, head_dim), not placed yet.

        They hold wherever the latents are placed later; the cache's context stays as it is.
        """
        cache.record = []
        self._run(latents, cond, mask, cache, text, prefill=True)
        keys, values = (torch.stack(t) for t in zip(*cache.record, strict=True))
        cache.record = None
        return keys, values

    def load(
        self,
        context: KeysValues,  # each (L, B, F, S, N, head_dim), from ``record``
        cond: Conditioning,
        *,
        size: tuple[int, int],  # h, w of a latent
        cache: Cache,
    ) -> None:
        """Place recorded keys and values in an empty cache: nothing is encoded anew."""
        cache.length = 0
        place, (keys, values) = self.place(cond, size, context[0].dtype, cache), context
        for layer in range(self.config.num_layers):
            cache.keep(layer, keys[layer], values[layer], place)
        cache.length = keys.shape[2] * keys.shape[3]

    def encode_text(
        self,
        text: Tensor,  # (B or 1, L, text_dim)
    ) -> TextCache:
        """Compute a prompt's keys and values in every layer; they hold until the prompt changes.

        Raises:
            ValueError: if the model takes no text, or text of another width.
        """
        if self.text_embedder is None:
            raise ValueError("this world's transformer takes no text; leave the prompt out")
        if text.ndim != 3 or text.shape[-1] != self.config.text_dim:
            raise ValueError(f"text has shape {tuple(text.shape)}, expected (B, L, {self.config.text_dim})")
        embedded = self.text_embedder(text).to(self.dtype)
        attentions = [block.text for block in self.blocks]
        return tuple(text_attention.keys_values(embedded) for text_attention in attentions)  # type: ignore[operator,union-attr]

    def tokens(
        self,
        latents: Tensor,  # (B, F, C, h, w)
    ) -> int:
        """Return the number of tokens per latent."""
        return latents.shape[-2] * latents.shape[-1] // self.config.patch**2

    def backend_for(self, mask: Tensor | None, *, tokens: int, dtype: torch.dtype) -> Backend:
        """Return what computes a forward pass in ``dtype`` with this mask (B or 1, Fq, Fk) and tokens per latent."""
        device = self.proj_out.weight.device
        chosen = resolve_backend(self.backend, device=device, dtype=dtype, head_dim=self.config.head_dim)
        return BACKENDS[chosen](mask, tokens=tokens, dtype=dtype)

    def latent_size(self, shape: tuple[int, int, int]) -> int:
        """Return the numbers that a latent (C, h, w) is in every layer."""
        return shape[1] * shape[2] // self.config.patch**2 * self.config.width

    def _run(
        self,
        latents: Tensor,
        cond: Conditioning,
        mask: Tensor | None,
        cache: Cache | None,
        text: TextCache | None,
        *,
        prefill: bool,
        place: Place | Reframing | None = None,
        render: Render | None = None,
    ) -> Tensor:
        config, (rows, columns) = self.config, (s // self.config.patch for s in latents.shape[-2:])
        if self.text_embedder is not None and text is None:
            raise ValueError("this transformer was trained with prompts; pass text=encode_text(...)")
        x = self.patch_embedding(patchify(latents, config.patch).to(self.dtype))
        if self.render_embedding is not None and render is not None:
            known = torch.cat([render[0] * (render[1] > 0), render[1]], 2)
            x = x + self.render_embedding(patchify(known, config.patch).to(self.dtype))
        if self.position_embedder is not None:
            x = x + self.position_embedder(rows, columns).to(x.dtype)
        if self.ray_embedder is not None:
            assert cond.unprojection is not None
            x = x + self.ray_embedder(cond.unprojection, rows, columns)
        if self.grasp_embedder is not None:
            assert cond.grasp is not None
            x = x + self.grasp_embedder(grasp_offsets(cond.grasp, rows, columns))
        if self.pose_embedding is not None and cond.drawn is not None:
            x = x + cond.drawn[..., None, None].to(x.dtype) * self.pose_embedding
        embedding = self.time_embedder(cond.timesteps)
        if self.action_embedder is not None:
            embedding = embedding + self.action_embedder(cond.labels)
        for name, embedder in self.code_embedders.items():
            embedding = embedding + embedder(cond.codes[name.removeprefix("code_")])
        modulation = self.time_proj(F.silu(embedding)).unflatten(-1, (6, -1))
        if config.numerics == "reference":
            embedding, modulation = embedding.float(), modulation.float()
        cache = Cache() if cache is None else cache
        if place is None:
            place = self.place(cond, (latents.shape[-2], latents.shape[-1]), x.dtype, cache)
        backend = self.backend_for(mask, tokens=rows * columns, dtype=x.dtype)
        if self.ranks is not None:
            x, cache = self.ranks.share(x), RanksCache(cache, self.ranks, rows * columns)
        for layer, block in enumerate(self.blocks):
            x = block(
                x,
                modulation,
                place,
                backend,
                cache,
                layer,
                None if text is None else text[layer],
                stop=prefill and layer == config.num_layers - 1,
            )
        if prefill:
            return x
        shift, scale = (self.scale_shift_table + embedding[:, :, None]).unbind(2)
        out = self.proj_out(modulate(x, shift, scale, exact=config.numerics == "reference"))
        if self.ranks is not None:
            out = self.ranks.whole(out, rows * columns)
        return unpatchify(out.float(), config.patch, rows=rows, columns=columns)

    def place(self, cond: Conditioning, size: tuple[int, int], dtype: torch.dtype, cache: Cache) -> Place | Reframing:
        """Return where latents of ``size`` (h, w) are, as the cache wants it; timesteps and labels do not enter."""
        rows, columns = (s // self.config.patch for s in size)
        return cache.place(cond, self.config, grid=(rows, columns), dtype=dtype)


def patchify(
    latents: Tensor,  # (B, F, C, h, w)
    patch: int,
) -> Tensor:
    """Cut latents into tokens, channels (ph, pw, C) with C fastest; (B, F, S, patch^2 C)."""
    x = latents.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))  # (B, F, C, rows, ph, columns, pw)
    return x.permute(0, 1, 3, 5, 4, 6, 2).flatten(4).flatten(2, 3)


def unpatchify(
    tokens: Tensor,  # (B, F, S, patch^2 C)
    patch: int,
    *,
    rows: int,
    columns: int,
) -> Tensor:
    """Put tokens back into latents (B, F, C, h, w)."""
    x = tokens.unflatten(2, (rows, columns)).unflatten(-1, (patch, patch, -1))
    x = x.permute(0, 1, 6, 2, 4, 3, 5)  # (B, F, C, rows, ph, columns, pw)
    return x.flatten(5, 6).flatten(3, 4)
