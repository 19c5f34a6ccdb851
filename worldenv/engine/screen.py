"""What B episodes show: the newest frames, and the decoder's past, from which the next latents become frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..base.device import threads_for
from ..dynamics.spec import WorldSpec
from ..models.causal_conv import VAECache
from ..models.codec import Codec, to_frames
from .capture import run_eagerly

THREADS_FROM = 2**14
"""Pixels of a frame of all episodes from which several CPU threads are worth waking; measured."""


class Screen:
    """Decodes latents of all episodes as they come; rows begin anew, and are copied, one by one."""

    def __init__(self, codec: Codec, num_envs: int, spec: WorldSpec, call: Callable[..., Any] = run_eagerly) -> None:
        self.codec, self.past, self._call = codec, VAECache(), call
        self.frames = torch.zeros(num_envs, spec.height, spec.width, 3, dtype=torch.uint8)  # newest
        self.device, self.num_frames = codec.latent_mean.device, spec.frames_per_latent

    def begin(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w), F >= 1
    ) -> Tensor:
        """Let these rows go on from the frames of a start view or a clip; return them, (R, 4 F - 3, H, W, 3) uint8."""
        fresh = VAECache()
        frames = to_frames(self.codec.decode(latents, fresh)).cpu()
        self._write(rows, fresh)
        return frames

    def show(
        self,
        rows: Tensor,  # (R,) int64, ascending
        latent: Tensor,  # (R, 1, C, h, w)
        *,
        begun: Tensor,  # (R,) bool: rows that go on; the others have their start view in this latent
        invented: Tensor,  # (R,) bool: rows of those whose start view the model has just made
    ) -> Tensor:
        """Decode the next latent of these rows, (R, 4, H, W, 3) uint8; a start view fills its four frames."""
        every = len(rows) == len(self.frames) and bool(begun.all())
        with threads_for(len(rows) * self.frames[0, ..., 0].numel(), enough=THREADS_FROM, device=self.device):
            frames = self._show_all(latent) if every else self._show_some(rows, latent, begun, invented)
        newest = self.frames.clone()  # what was handed out is never written again
        newest[rows] = frames[:, -1]
        self.frames = newest
        return frames

    def _show_all(self, latent: Tensor) -> Tensor:
        where = tuple(t.data_ptr() for t in self.past.tensors)
        frames, past = self._call(self._decode, latent, key=where)
        for kept, new in zip(self.past.tensors, past, strict=True):
            kept.copy_(new)
        shown: Tensor = frames.cpu()
        return shown

    def _show_some(self, rows: Tensor, latent: Tensor, begun: Tensor, invented: Tensor) -> Tensor:
        frames = self.frames[rows, None].repeat(1, self.num_frames, 1, 1, 1)
        for chosen, cache in ((begun, self.past), (invented, VAECache())):
            index = chosen.nonzero()[:, 0]
            if len(index):
                part = cache.select(rows[index].to(self.device)) if cache.tensors else cache
                made = to_frames(self.codec.decode(latent[index.to(self.device)], part)).cpu()
                frames[index] = made.expand(-1, self.num_frames, -1, -1, -1)
                self._write(rows[index], part)
        return frames

    def _decode(self, latent: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return frames and the past of the next ones; this one is only read, for recording runs it several times."""
        cache = VAECache(list(self.past.tensors))
        return to_frames(self.codec.decode(latent, cache)), cache.tensors

    def _write(self, rows: Tensor, part: VAECache) -> None:
        """Overwrite the decoder's past in these rows, where it is; a decoder of single pictures has none."""
        if not part.tensors:
            return
        if not self.past.tensors:
            with torch.inference_mode(False):  # written to in any mode from now on
                self.past = VAECache([t.new_zeros(len(self.frames), *t.shape[1:]) for t in part.tensors])
        self.past.write(rows.to(self.device), part)

    def clone(self, rows: Tensor) -> dict[str, Tensor]:
        """Copy what some rows show as tensors with a leading row axis."""
        past = self.past.select(rows.to(self.device)).tensors
        return {"frames": self.frames[rows], **{f"decoder.{i:02d}": t for i, t in enumerate(past)}}

    def restore(self, rows: Tensor, tensors: dict[str, Tensor]) -> None:
        """Go on with what was cloned in these rows."""
        self.frames[rows] = tensors["frames"]
        past = [tensors[key].to(self.device) for key in sorted(tensors) if key.startswith("decoder.")]
        if past:
            self._write(rows, VAECache(past))

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Copy what some rows show onto others."""
        self.restore(rows, self.clone(source))
