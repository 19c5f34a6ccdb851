"""More for a trained transformer: finer tokens, or further inputs.

The blocks go on as they are, only what reads and writes latents changes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .dit import WorldDiT


def with_inputs(dit: WorldDiT, **inputs: Any) -> WorldDiT:
    """Return the same transformer with inputs that it had not (``render_input``, ``grasp_offsets``,
    ``grasp_branch``), and that do nothing yet.
    """
    wider = WorldDiT(replace(dit.config, **inputs)).to(dit.dtype)
    state = wider.state_dict() | dict(dit.state_dict())
    wider.load_state_dict(state)
    return wider


def with_finer_tokens(dit: WorldDiT, patch: int) -> WorldDiT:
    """Return a transformer whose tokens have ``patch`` latent cells per side, started from one with coarser tokens.

    A cell is read as if its whole old token were like it, and written as the mean of what the old token's cells were;
    where in the picture a token lies, and so which cell of the old token it was, it learns within a few dozen steps.

    Raises:
        ValueError: unless ``patch`` divides the old one.
    """
    old = dit.config
    if old.patch % patch or patch == old.patch:
        raise ValueError(f"tokens of {patch} x {patch} cells do not divide those of {old.patch} x {old.patch}")
    config, state = replace(old, patch=patch), dict(dit.state_dict())
    ratio, inside = old.patch // patch, patch * patch * old.latent_channels

    def cells(name: str, axis: int) -> None:
        """Cut an axis of (ph, pw, C) into new tokens and their cells: what reads adds them up, what writes averages."""
        weight = state[name].unflatten(axis, (ratio, patch, ratio, patch, old.latent_channels))
        axes = (axis, axis + 2)
        joined = weight.sum(axes) if name.startswith("patch") else weight.mean(axes)
        state[name] = joined.flatten(axis, axis + 2)
        assert state[name].shape[axis] == inside

    cells("patch_embedding.weight", 1)
    cells("proj_out.weight", 0)
    cells("proj_out.bias", 0)
    fine = WorldDiT(config).to(dit.dtype)
    fine.load_state_dict(state)
    return fine
