"""What became of an object that a hand should have placed, lifted or pushed, read off an arm's pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.objects import seen_keypoints
from ...dynamics.protocol import Chunk
from ...models.heads import ObjectHead
from ...tasks.base import Start
from ...tasks.registry import make_task
from ...training.stages.object import read_objects
from ...training.weights import CHANGED
from ...world.world import World
from ..image import Array, decibels
from .tables import Tables

HORIZONS = (24, 48, 64, 96)
"""Frames after the first one that the object's error is given at; 64 is a chunk of 16 behind half a clip of 97."""
NAMES = ("object_visible", "true_success", "false_success", *(f"object_error_mm_{t}" for t in HORIZONS))
"""Metrics that some recordings do not have."""
LEAST_PIXELS, MOVED = 12, 0.03
"""Pixels of an object from which it is there to be seen, and metres from which it has moved."""
ALIKE = 50
"""Difference of a colour, of 255, up to which most of an object's pixels must agree for it to be seen."""


def score(tables: Tables, made: Tensor, head: ObjectHead, world: World) -> dict[str, Array]:
    """Return an arm's metrics, one number per episode, NaN where one has none; what no episode has is left out."""
    every = world.spec.frames_per_latent
    found, hand = read_objects(head, made, every)
    off = 1000 * (found[..., :3] - tables.truth[..., :3]).norm(dim=-1)  # (N, F) millimetres
    errors = {f"object_error_mm_{t}": _array(off[:, t // every]) for t in HORIZONS if t // every < off.shape[1]}
    seen = (hand - seen_keypoints(tables.keypoints, world.spec)).norm(dim=-1) * world.spec.width / 2
    measured = {
        **errors,
        "object_visible": _visible(tables, made, every),
        **_outcomes(tables, found, world),
        **_fidelity(tables, made),
        "keypoint_error_px": _array(seen[:, 1:].mean((1, 2))),
    }
    return {name: values for name, values in measured.items() if not np.isnan(values).all()}


def _visible(tables: Tables, made: Tensor, every: int) -> Array:
    """Return the share of latents in which an object that has moved is seen where it is."""
    ends = slice(None, None, every)
    thing, true, shown = tables.thing[:, ends], tables.frames[:, ends].short(), made[:, ends].short()
    alike = ((true - shown).abs().amax(-1) <= ALIKE) & thing
    pixels = thing.sum((2, 3))
    moved = (tables.truth[..., :3] - tables.truth[:, :1, :3]).norm(dim=-1) > MOVED
    asked = (pixels >= LEAST_PIXELS) & moved
    seen = asked & (2 * alike.sum((2, 3)) >= pixels)
    return _array(seen.sum(1) / asked.sum(1))  # NaN where nothing has moved


def _outcomes(tables: Tables, found: Tensor, world: World) -> dict[str, Array]:
    """Return whether success that is read agrees with the simulator's, where that succeeded and where it failed."""
    really, read = (succeeded(tables, what) for what in (tables.truth, found))
    nothing = np.full(len(really), np.nan)
    return {
        "place_agreement": (really == read).astype(np.float64),
        "true_success": np.where(really, read, nothing),
        "false_success": np.where(really, nothing, read),
    }


def succeeded(
    tables: Tables,
    thing: Tensor,  # (N, F, 5) as it is, or as it is read
) -> Any:
    """Return in which episodes their own task was done, (N,) bool: by its rules for worlds, latent by latent."""
    done = []
    for i, name in enumerate(tables.tasks):
        one = slice(i, i + 1)
        task, signals = make_task(f"hand_{name}"), {"object_read": thing[one], "keypoints": tables.keypoints[one]}
        present = {key: part[:, 0] for key, part in signals.items()} | {"target": tables.target[one, 0]}
        blank, ended = torch.zeros(1, 1, 1, 1, 3, dtype=torch.uint8), False
        state = task.reset(Start(blank[:, 0], present, {}))
        for k in range(1, thing.shape[1]):
            outcome = task.step(state, Chunk(blank, {key: part[:, k : k + 1] for key, part in signals.items()}))
            state, ended = outcome.state, ended or bool(outcome.success)
        done.append(ended)
    return np.array(done)


def _fidelity(tables: Tables, made: Tensor) -> dict[str, Array]:
    """Return PSNR over all pixels, over those that differ from the first frame, and over the object's."""
    true, shown = (x.double() / 255 for x in (tables.frames[:, 1:], made[:, 1:]))
    squares = (true - shown).square().mean(-1)  # (N, T, H, W)
    changed = (true - tables.frames[:, :1].double() / 255).abs().amax(-1) > CHANGED
    masks = {"psnr": torch.ones_like(changed), "changed_psnr": changed, "object_psnr": tables.thing[:, 1:]}
    return {
        name: decibels(_array((squares * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)))) for name, mask in masks.items()
    }


def _array(values: Tensor) -> Array:
    result: Array = values.double().numpy()
    return result
