"""What episodes begin with: a start view of the world, a picture or a clip that is given, a history, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base.rng import draw_start
from ..dynamics.signals import Signals, check_signals
from ..dynamics.spec import WorldSpec, frames_of
from ..models.codec import to_pixels
from ..world.histories import Histories
from ..world.world import World
from .state import EngineState
from .stepper import Stepper


class Beginnings:
    """Begins episodes in rows of a state.

    Raises:
        ValueError: if the histories that episodes are to begin after are not whole chunks.
    """

    def __init__(
        self,
        world: World,
        spec: WorldSpec,
        state: EngineState,
        stepper: Stepper,
        histories: Histories | None,  # what episodes begin after; None: start views
    ) -> None:
        self.world, self.spec, self.state, self.stepper, self.histories = world, spec, state, stepper, histories
        self.device = world.vae.latent_mean.device
        if histories is not None and (histories.num_latents - 1) % spec.chunk_latents:
            raise ValueError(
                f"clips of 1 + {histories.num_latents - 1} latents are not whole chunks of {spec.chunk_latents}; "
                "choose another chunk_latents"
            )

    def draw(
        self,
        rows: Tensor,  # (R,) int64
        seeds: list[int],
        starts: Sequence[int | None],
    ) -> None:
        """Begin with what each seed draws, or with the start that is named.

        A world that has its start view in the first chunk and no start views of its own invents one from the prompt;
        until then the view is black.
        """
        if self.histories is not None:
            self._after(self.histories, rows, seeds, _drawn(len(self.histories), seeds, starts))
        elif self.spec.start_in_chunk and self.world.starts is None:
            self.state.screen.frames[rows] = 0
            self.encoded(rows, torch.zeros(len(rows), 0, *self.world.latent_shape), self.spec.still(len(rows)), seeds)
        else:
            views = self.world.require_starts()
            index = _drawn(len(views), seeds, starts)
            self.shown(rows, views.frames[index, None], views.track(index), seeds)

    def _after(self, past: Histories, rows: Tensor, seeds: list[int], index: Tensor) -> None:
        """Begin after histories (R,) that were encoded before.

        Where their views are not what entries end with, as in other chunks than the world's own, what entries show is
        decoded.
        """
        self.state.screen.frames[rows] = past.views[index, -1]
        latents = past.latents[index].to(self.device, torch.float32)
        views = past.views[index] if past.shows_entries(self.spec.chunk_latents) else None
        self.stepper.begin(rows, latents, past.signals.at(index), seeds, noise=None, frames=None, views=views)

    def shown(
        self,
        rows: Tensor,  # (R,) int64
        frames: Tensor,  # (R, 4 F - 3, H, W, 3) uint8
        track: Signals,  # each (R, F, ...); none for a lone view of a world without a camera
        seeds: list[int],
    ) -> None:
        """Begin with pictures or clips."""
        vae = self.world.vae
        pixels = to_pixels(frames).to(self.device, vae.dtype)
        latents = torch.cat([vae.encode(row[None]) for row in pixels])  # one by one: equal in any batch
        self.state.screen.frames[rows] = frames[:, -1]
        self.encoded(rows, latents, track or self.spec.still(len(rows)), seeds, frames=frames)

    def encoded(
        self,
        rows: Tensor,  # (R,) int64
        latents: Tensor,  # (R, F, C, h, w)
        track: Signals,  # each (R, F, ...), or (R, 1, ...) where there are no latents
        seeds: list[int],
        *,
        noise: Tensor | None = None,  # (R, horizon, C, h, w)
        frames: Tensor | None = None,  # (R, 4 F - 3, H, W, 3) uint8: what was encoded
    ) -> None:
        """Begin with latents; see ``Engine.begin``."""
        if not latents.shape[1] and not self.spec.start_in_chunk:
            raise ValueError(f"world {self.world.config.name!r} invents no start view; pass one")
        self.stepper.begin(rows, latents, self.spec.complete(track), seeds, noise=noise, frames=frames)

    def check_clip(self, frames: Tensor, track: Signals) -> None:
        """Refuse clips that no episode can begin with."""
        chunk, start_in_chunk, each = self.spec.chunk_latents, self.spec.start_in_chunk, self.spec.frames_per_latent
        count = next(iter(track.values())).shape[1] if track else 1
        rest = (count - (0 if start_in_chunk else 1)) % chunk
        if (rest and count > 1) or frames.shape[1] != frames_of(count, each):
            first = frames_of(chunk, each) if start_in_chunk else 1
            named = "poses" if "c2w" in track else "entries of " + (", ".join(track) or "what led to it")
            raise ValueError(
                f"a clip of {frames.shape[1]} frames with {count} {named}; pass {first} + "
                f"{each * chunk} N frames and one for every {each} of them, from the first"
            )
        declared = {name: signal for name, signal in self.spec.takes.items() if name in track}
        check_signals(track, declared, what="a clip's signals", lead=(len(frames), count))


def _drawn(count: int, seeds: list[int], starts: Sequence[int | None]) -> Tensor:
    """Return which of ``count`` each episode begins with, (R,) int64."""
    return torch.tensor([draw_start(count, *both) for both in zip(seeds, starts, strict=True)], dtype=torch.long)
