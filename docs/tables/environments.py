"""The tables of environments: what they are, from the tasks themselves, and what is earned in them without learning."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

from cells import RESULTS, cell, heading, load

from worldenv.dynamics.signals import PICTURE, Signal
from worldenv.dynamics.spec import WorldSpec
from worldenv.tasks.base import Defaults
from worldenv.tasks.registry import SIMULATED, id_names, make_task


def environments_table() -> list[str]:
    """Return a row for each task: ids, observation, action, what is rewarded, and when it ends; then its options."""
    columns = ("twin on ground truth", "observation", "action", "task and reward", "limit")
    lines = heading("", "id", columns)[2:]
    for task, (name, version) in id_names().items():
        made = make_task(task)
        says = (sys.modules[type(made).__module__].__doc__ or "").partition("\n\n")[0].replace("\n", " ").strip()
        own = made.defaults
        shown = [f"`{key}` {_shape(made.shows[key])}" if key in made.shows else f"`{key}`" for key in own.obs_keys]
        seen = "dict: " + ", ".join(shown) if own.obs_mode == "dict" else f"`{own.obs_mode}`"
        limit = "the environment's" if own.recorded else _limit(own)
        ids = f"`worldenv/{name}-{version}` | `worldenv/{name}Sim-{version}`"
        lines.append(f"| {ids} | {seen} | `{own.action_mode}` | {says} | {limit} |")
    return [*lines, *_options_table()]


def _options_table() -> list[str]:
    """Return a row for each task with what its ``task_options`` are by default, and what they say."""
    lines = ["", "| task | `task_options` and what they are by default |", "|---|---|"]
    for task, (name, version) in id_names().items():
        made: Any = make_task(task)
        says = {key: text for kind in reversed(type(made).__mro__) for key, text in _said_of_fields(kind).items()}
        told = [f"`{one.name}` {getattr(made, one.name)}: {says[one.name]}" for one in fields(made)]
        if told:
            lines.append(f"| `{name}-{version}` | {'; '.join(told)} |")
    return lines


def _said_of_fields(kind: type) -> dict[str, str]:
    """Return the strings that stand below a class's fields, as a clause each."""
    if kind.__module__ == "builtins" or not is_dataclass(kind):
        return {}
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, below in pairwise(tree.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            text = " ".join(str(below.value.value).replace("``", "`").split()).removesuffix(".")
            found[ast.unparse(field.target)] = text[0].lower() + text[1:]
    return found


def _limit(own: Defaults) -> str:
    """Write after how many steps and frames an episode ends."""
    each = WorldSpec().frames_per_latent
    if own.max_episode_latents is not None:
        return f"{own.max_episode_latents} latents, {own.max_episode_latents * each:,} frames"
    if own.max_episode_steps < 0:
        return "none"
    return f"{own.max_episode_steps} steps, {own.max_episode_steps * WorldSpec().chunk_frames:,} frames"


def scores_table() -> list[str]:
    """Return what policies earn that were not trained, where they were run."""
    lines: list[str] = []
    how = ""
    for task, (name, version) in id_names().items():
        if task in SIMULATED or not (RESULTS / f"scores-{task}.json").is_file():
            continue
        report = load(f"scores-{task}")
        how = f"--twin`, {report['hardware']}; means with 95 % intervals"
        for row in report["rows"]:
            env_id = f"worldenv/{name}{'Sim' * (row['dynamics'] == 'sim')}-{version}"
            figures = [cell(row[key], 2) for key in ("returns", "success", "lengths")]
            lines.append(f"| `{env_id}` | `{row['policy']}` | " + " | ".join(figures) + f" | {row['returns']['n']} |")
    if not lines:
        return []
    command = f"`worldenv-agents eval POLICY --env ID --episodes N {how}"
    return [
        "",
        f"What chance and scripts earn; `chase` alone looks ({command}):",
        "",
        "| id | policy | return | success | steps | episodes |",
        "|---|---|---|---|---|---|",
        *lines,
    ]


def _shape(signal: Signal) -> str:
    """Write a signal's shape; pictures have the world's size."""
    return "(H, W, 3)" if signal == PICTURE else str(signal.shape)
