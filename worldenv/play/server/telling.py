"""What a session tells and is told, beside pictures: actions in; what is observed, given, remembered and seen out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...dynamics.protocol import Explained
from ...engine.engine import Engine
from ...envs.env import first_row, plain_info
from ...envs.vector_env import WorldVectorEnv
from .opening import core_of, engine_of
from .share import Share


def tell(env: WorldVectorEnv, obs: Any, info: dict[str, Any], *, single: bool, explain: bool) -> dict[str, Any]:
    """Return fields of an ``Outcome``.

    Args:
        env: environment.
        obs: what it observed, of each row.
        info: of each row.
        single: whether to tell of the first row alone, without an axis of rows.
        explain: whether to tell what it remembers and sees; of a single one.
    """
    core = core_of(env)
    n_frames = core.spec.chunk_frames if core.chunk is not None else 1
    if core.chunk is not None and core.chunk.n_frames is not None:
        n_frames = int(core.chunk.n_frames[0])
    return {
        "obs": first_row(obs) if single else obs,
        "info": plain_info(info) if single else info,
        "signals": _given(env) if single else {},
        "n_frames": n_frames,
        "explained": explained(env) if single and explain else None,
    }


def observed(env: WorldVectorEnv) -> Any:
    """Return what is observed of each row at present."""
    obs = core_of(env).observe()
    return {name: part.numpy() for name, part in obs.items()} if isinstance(obs, dict) else obs.numpy()


def with_rows(action: Any) -> Any:
    """Give the action of one row an axis of rows."""
    if isinstance(action, dict):
        return {name: np.asarray(part)[None] for name, part in action.items()}
    return np.asarray(action)[None]


def _given(env: WorldVectorEnv) -> dict[str, Any]:
    """Return what the world gave of the first row at the end of each latent, (F, ...)."""
    core = core_of(env)
    now = core.chunk is None  # before the first chunk there is only the present
    told = core.dynamics.present if now else core.chunk.signals  # type: ignore[union-attr]
    return {
        name: (told[name][0][None] if now else told[name][0]).cpu().numpy()
        for name, signal in core.spec.gives.items()
        if signal.rate == "latent" and name in told
    }


def explained(env: WorldVectorEnv) -> dict[str, Any]:
    """Return what the one row remembers and sees, as far as there is such a thing."""
    dynamics = core_of(env).dynamics
    told: dict[str, Any] = {}
    if isinstance(dynamics, Explained):
        told["memory"] = {name: part[0].cpu().numpy() for name, part in dynamics.explain().items()}
    present = dynamics.present
    if "depth" in present:
        told["depth"] = present["depth"][0].cpu().float().numpy()
    if not isinstance(dynamics, Engine | Share):
        return told
    history, row = engine_of(dynamics).history, dynamics.rows[0] if isinstance(dynamics, Share) else 0
    if history.views is not None and bool((history.views.sources[row] >= 0).any()):
        told["known"] = history.views.known[row, -1].numpy()
    if history.walls is not None:
        cells, corner = history.walls.chart(row)
        told["floor"] = {"cells": cells.numpy(), "corner": list(corner), "cell": history.walls.config.cell}
    return told
