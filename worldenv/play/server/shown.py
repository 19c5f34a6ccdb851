"""What a session shows: pictures of latents as they are decoded; and those that it is shown."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...dynamics.messages import Frames, Reset
from ...dynamics.spec import WorldSpec
from ...dynamics.wire import Message
from ...engine.engine import Engine
from ...envs.vector_env import WorldVectorEnv
from ..picture import fit_picture
from .opening import check_prompt, core_of
from .share import Share

MAX_SIDE, MAX_PIXELS = 2**13, 2**24
"""Of a picture that is uploaded."""
FORMATS = ("PNG", "JPEG")
QUALITY = 90
"""Of pictures that are sent as JPEG."""


class Screening:
    """Sends a chunk's pictures while a step lasts: from engines each latent as it is decoded, else all at its end."""

    def __init__(
        self,
        env: WorldVectorEnv,
        number: int,
        session: str,
        pictures: str,
        send: Callable[[Message], None],
        *,
        single: bool,
        display: bool,  # whether to show them by the display decoder, too
    ) -> None:
        self.env, self.number, self.session, self.pictures, self.send = env, number, session, pictures, send
        self.single, self.display, self.count = single, display, 0
        self.chunk = int(core_of(env).elapsed[0])

    def __enter__(self) -> None:
        dynamics = core_of(self.env).dynamics
        if self.pictures == "none" or self.env.autoreset_mode.value != "Disabled":
            return
        if isinstance(dynamics, Share):
            dynamics.watch = self._latent
        elif isinstance(dynamics, Engine):
            dynamics.watch = lambda _, latent, frames: self._latent(latent, frames)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        dynamics = core_of(self.env).dynamics
        if isinstance(dynamics, Share | Engine):
            dynamics.watch = None

    def finish(self) -> None:
        """Send what was not sent as it was decoded."""
        if self.pictures == "none" or self.count:
            return
        frames, spec = core_of(self.env).frames, core_of(self.env).spec
        assert frames is not None
        for latent, part in enumerate(frames.split(spec.frames_per_latent, 1)):
            self._latent(latent, part)

    def again(self) -> None:
        """Send the pictures of the newest chunk, which were sent before."""
        self.chunk -= 1
        self.finish()

    def view(self) -> None:
        """Send the newest frame alone."""
        if self.pictures != "none":
            frames = core_of(self.env).frames
            assert frames is not None
            self._send(self.chunk, 0, frames[:, -1:], last=True)

    def _latent(self, latent: int, frames: Tensor) -> None:
        self.count += 1
        self._send(self.chunk + 1, latent, frames, last=self.count == core_of(self.env).spec.chunk_latents)

    def _send(self, chunk: int, latent: int, frames: Tensor, *, last: bool) -> None:
        shown: Any = frames.numpy()[0] if self.single else frames.numpy()
        if self.pictures != "raw":
            shown = [_encoded(frame, self.pictures) for frame in shown.reshape(-1, *shown.shape[-3:])]
        large = core_of(self.env).enlarge(frames) if self.display else frames
        displayed = None
        if large.shape != frames.shape:
            displayed = [_encoded(frame, "jpeg") for frame in large.flatten(0, 1).numpy()]
        self.send(
            Frames(
                id=self.number,
                session=self.session,
                chunk=chunk,
                latent=latent,
                last=last,
                pictures=shown,
                displayed=displayed,
            )
        )


def _encoded(frame: np.ndarray[Any, Any], kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format=kind, quality=QUALITY)
    return file.getvalue()


def read_picture(data: bytes, spec: WorldSpec) -> np.ndarray[Any, Any]:
    """Decode an uploaded PNG or JPEG, scaled and cropped to the world's frame, (H, W, 3) uint8.

    Its size is read before its pixels are, and refused where it is too large.

    Raises:
        ValueError: if it is neither, broken or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
                raise ValueError(
                    f"picture has {width} x {height} pixels; the most are {MAX_SIDE} a side and {MAX_PIXELS} in all"
                )
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"picture is no {' or '.join(FORMATS)} that can be read ({error})") from None
    return fit_picture(torch.from_numpy(pixels.copy()), spec).numpy()


def reset_options(ask: Reset, spec: WorldSpec) -> dict[str, Any]:
    """Return options of the environment's ``reset``, with a picture that came as a file among them."""
    options = dict(ask.options)
    check_prompt(options.get("prompt"))
    if ask.picture is not None:
        if "image" in options:
            raise ValueError("picture and options.image are both start views; send one of them")
        options["image"] = read_picture(ask.picture, spec)
    if "reset_mask" in options:
        options["reset_mask"] = np.asarray(options["reset_mask"])
    return options
