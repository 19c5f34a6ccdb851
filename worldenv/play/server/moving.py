"""Episodes on their way: to another environment of the same world, whose memory may be another, and as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ...base.checkpoint import under
from ...base.rng import derive_seed
from ...engine.engine import Engine
from ...envs.vector_env import WorldVectorEnv
from .opening import core_of
from .share import Share

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


def reseed_row(env: WorldVectorEnv, seed: int) -> None:
    """Give the one row of an environment new random numbers, by way of its state; see ``Engine.fork``.

    Raises:
        ValueError: if its world has drawn its noise ahead.
    """
    state = env.clone_state([0])
    if f"{ENGINE}noise" in state:
        raise ValueError("reseed: this world draws its noise ahead; fork without it")
    generator = torch.Generator().manual_seed(derive_seed(seed, "noise"))
    state[f"{ENGINE}generators"], state[f"{ENGINE}seeds"] = generator.get_state()[None], torch.tensor([seed])
    state["row.seed"] = torch.tensor([seed])
    env.restore_state(state, [0])


def write_state(env: WorldVectorEnv, rows: Sequence[int] | None) -> bytes:
    """Return the episodes of some rows (all by default) as a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        env.save_state(path, rows)
        return path.read_bytes()


def read_state(env: WorldVectorEnv, data: bytes, rows: Sequence[int] | None) -> None:
    """Go on from such a file; a ValueError where it is none, or of another world."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        path.write_bytes(data)
        try:
            env.load_state(path, rows)
        except ValueError as error:
            raise ValueError(str(error).replace(f"{path}: ", "")) from None
