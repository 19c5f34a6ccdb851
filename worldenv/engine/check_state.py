"""What a cloned state has to hold: checked as a whole before any episode goes on from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..base.checkpoint import Expected, check_tensors
from ..geometry.occupancy import MOST
from ..geometry.pose import is_rigid
from .history import History
from .state import EngineState

WHERE = "the state"
FURTHEST = 2**40
"""Cells from the origin beyond which nobody walks."""


def check_state(state: EngineState, tensors: Mapping[str, Tensor], num_rows: int) -> None:
    """Refuse a state that ``EngineState.restore`` could not go on from, or only into nonsense.

    Raises:
        ValueError: naming what is wrong.
    """
    history = state.history
    if ("store.entry" in tensors) != (history.store is not None):
        raise ValueError(f"{WHERE} is of another memory policy: one keeps keys and values, the other does not")
    if ("views.frames" in tensors) != (history.views is not None):
        raise ValueError(f"of {WHERE}'s memory and this one only one is rendered; set memory.render alike")
    if ("walls.evidence" in tensors) != (history.walls is not None):
        raise ValueError(f"of {WHERE}'s world and this one only one has walls; set memory.walls alike")
    for name in state.events.heads:
        if f"events.{name}" not in tensors:
            raise ValueError(f"{WHERE} is of a world without a head {name!r}; restore it into the world it is of")
    check_tensors(tensors, _expected(state, tensors), where=WHERE, R=num_rows)
    _check_history(history, tensors)
    if history.store is not None:
        _check_store(history, tensors)
    for name in state.events.heads:  # what a GRU remembers lies between -1 and 1
        _require(_within(tensors[f"events.{name}.state"], -1, 1), f"events.{name}.state")
    _check_signals(history, {name: tensors[f"origin.{name}"] for name in state.origin}, "origin")
    _require(
        "prompt" not in tensors or _within(tensors["prompt_length"], 1, tensors["prompt"].shape[1]), "prompt_length"
    )
    for generator in tensors["generators"]:
        try:
            torch.Generator().set_state(generator.clone())
        except RuntimeError:
            _require(False, "generators")


def _expected(state: EngineState, tensors: Mapping[str, Tensor]) -> dict[str, Expected]:
    """Return what a clone of these episodes holds: R rows of M latents, V views, P entries, prompts of T tokens."""
    history, bank, screen, latent = state.history, state.bank, state.screen, state.history.latent_shape
    numbers, flags = (torch.int64, ("R",)), (torch.bool, ("R",))
    expected: dict[str, Expected] = {
        "latents": (torch.float32, ("R", "M", *latent)),
        "length": numbers,
        "seeds": numbers,
        **{f"track.{name}": (part.dtype, ("R", "M", *part.shape[2:])) for name, part in bank.track.items()},
        **{f"origin.{name}": (part.dtype, ("R", *part.shape[1:])) for name, part in state.origin.items()},
        "generators": (torch.uint8, ("R", len(torch.Generator().get_state()))),
        "stale": flags,
        "frames": (torch.uint8, ("R", *screen.frames.shape[1:])),
    }
    past = {f"decoder.{i:02d}": part for i, part in enumerate(screen.past.tensors)}
    past = past or {name: part for name, part in tensors.items() if name.startswith("decoder.")}
    expected |= {name: (_precision(tensors, name), ("R", *part.shape[1:])) for name, part in past.items()}
    if history.views is not None:
        views = {f"views.{name}": part for name, part in bank.views().items()}
        expected |= {name: (part.dtype, ("R", "V", *part.shape[2:])) for name, part in views.items()}
        expected["views.given"] = numbers
    if history.walls is not None:
        expected["walls.evidence"] = (torch.int8, ("R", *history.walls.evidence.shape[1:]))
        expected["walls.centre"] = (torch.int64, ("R", 2))
    events = state.events.clone(torch.zeros(1, dtype=torch.long))
    expected |= {name: (part.dtype, ("R", *part.shape[1:])) for name, part in events.items()}
    if history.store is not None:
        pool, chunk = history.store.pool, history.layout.chunk_latents
        assert pool is not None
        pages = ("R", len(pool.keys), "Q", *pool.keys.shape[2:])
        held = {name: getattr(history.store, name) for name in history.store.columns}
        expected |= {
            **{f"store.{name}": (part.dtype, ("R", "P", *part.shape[2:])) for name, part in held.items()},
            **{f"store.{name}": (getattr(history.store, name).dtype, ("R",)) for name in history.store.numbers},
            "store.filled": (torch.bool, ("R", "P", chunk)),
            "store.keys": (_precision(tensors, "store.keys"), pages),
            "store.values": (_precision(tensors, "store.values"), pages),
        }
    if state.window is not None:
        window = state.window.latents
        expected |= {"window.latents": (window.dtype, ("R", *window.shape[1:])), "window.begun": flags}
    if "noise" in tensors:
        expected["noise"] = (torch.float32, ("R", "H", *latent))
    if "prompt" in tensors and history.dit.config.text_dim:
        prompt = (_precision(tensors, "prompt"), ("R", "T", history.dit.config.text_dim))
        expected |= {"prompt": prompt, "prompt_length": numbers}
    return expected


def _precision(tensors: Mapping[str, Tensor], name: str) -> torch.dtype:
    """Return the dtype of what is computed: whatever floating-point numbers a world computed in."""
    dtype = tensors[name].dtype if name in tensors else torch.float32
    return dtype if dtype.is_floating_point else torch.float32


def _check_history(history: History, tensors: Mapping[str, Tensor]) -> None:
    length, num_latents = tensors["length"], tensors["latents"].shape[1]
    _require(_within(length, 0, num_latents), "length")
    there = torch.arange(num_latents) < length[:, None]
    _check_signals(history, {name: tensors[f"track.{name}"][there] for name in history.bank.track}, "track")
    if history.views is not None:
        _require(tensors["views.frames"].shape[1] == history.bank.slots_of(num_latents), "views.frames")
        _require(_within(tensors["views.given"], 0, length), "views.given")
    if history.walls is not None:
        _require(_within(tensors["walls.evidence"], -MOST, MOST), "walls.evidence")
        _require(_within(tensors["walls.centre"], -FURTHEST, FURTHEST), "walls.centre")


def _check_signals(history: History, signals: Mapping[str, Tensor], where: str) -> None:
    """Refuse signals (N, ...) beyond what the world takes, and poses that are no rigid motions."""
    for name, part in signals.items():
        low, high = history.spec.takes[name].bounds
        _require(_within(part, low, high) and bool(torch.isfinite(part).all()), f"{where}.{name}")
        _require(name != "c2w" or is_rigid(part), f"{where}.{name}")


def _check_store(history: History, tensors: Mapping[str, Tensor]) -> None:
    entry, filled = tensors["store.entry"], tensors["store.filled"]
    there = entry >= 0
    members = history.layout.members(entry)
    _require(_within(entry, -1, tensors["store.made"][:, None] - 1), "store.entry")
    _require(bool((members < tensors["length"][:, None, None]).all()), "store.entry")
    _require(bool((there[:, 1:] <= there[:, :-1]).all()), "store.entry")
    _require(bool((filled == (members >= 0)).all()), "store.filled")
    _require("store.c2w" not in tensors or is_rigid(tensors["store.c2w"][there]), "store.c2w")
    _require(tensors["store.keys"].shape[2] == filled[0].numel(), "store.keys")


def _within(numbers: Tensor, low: float, high: float | Tensor) -> bool:
    return bool(((numbers >= low) & (numbers <= high)).all())


def _require(fits: bool, name: str) -> None:
    if not fits:
        raise ValueError(f"{WHERE}: {name} holds what no episode has; the file was damaged or edited")
