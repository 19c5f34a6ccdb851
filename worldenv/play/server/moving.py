"""An episode in another environment of the same world: under another memory, its past is remembered anew."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...base.checkpoint import under
from ...engine.engine import Engine
from ...envs.vector_env import WorldVectorEnv
from .opening import core_of
from .pool import Share

ENGINE = "engine."
SAME = ("generators", "frames", "stale", "prompt", "prompt_length", "noise")
"""What of an engine's state does not depend on its memory, beside the decoder's past."""


def move(state: Mapping[str, Tensor], env: WorldVectorEnv) -> None:
    """Go on with a cloned episode in the one row of an environment, whose memory may be another.

    Raises:
        ValueError: if it is of another world, task or size.
    """
    if core_of(env).frames is None:
        env.reset(seed=0)
    try:
        env.restore_state(state, [0])
    except ValueError:
        dynamics = core_of(env).dynamics
        if not isinstance(dynamics, Engine | Share):
            raise
        env.restore_state(_remembered_anew(state, env, dynamics), [0])


def _remembered_anew(state: Mapping[str, Tensor], env: WorldVectorEnv, dynamics: Engine | Share) -> dict[str, Tensor]:
    """Begin with an episode's latents as a clip, so that the memory takes them in; return that with all else as it was.

    What was shown is decoded anew where it is remembered.
    """
    past = under(state, ENGINE)
    if not {"latents", "length", "generators", "seeds"} <= past.keys():
        raise ValueError("the state holds no episode of a generated world")
    length = int(past["length"][0])
    track = {name: part[:, :length] for name, part in under(past, "track.").items()}
    dynamics.begin(torch.tensor([0]), past["latents"][:, :length], track, past["seeds"].tolist())
    fresh = dynamics.clone_state([0])
    kept = {
        name: part for name, part in past.items() if name in SAME or name.startswith(("decoder.", "origin.", "events."))
    }
    return {
        **{name: part for name, part in state.items() if not name.startswith(ENGINE)},
        **{f"{ENGINE}{name}": part for name, part in (fresh | kept).items()},
    }
