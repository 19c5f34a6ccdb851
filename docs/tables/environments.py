"""The table of environments, from the tasks themselves."""

from __future__ import annotations

import sys

from cells import heading

from worldenv.dynamics.spec import WorldSpec
from worldenv.ids import VERSION
from worldenv.tasks.registry import id_names, make_task


def environments_table() -> list[str]:
    """Return a row for each task: ids, observation, action, what is rewarded, and when it ends."""
    columns = ("twin on ground truth", "observation", "action", "task and reward", "limit")
    lines = heading("", "id", columns)[2:]
    for name, task in id_names().items():
        made = make_task(task)
        says = (sys.modules[type(made).__module__].__doc__ or "").partition("\n\n")[0].replace("\n", " ").strip()
        own, steps = made.defaults, made.defaults.max_episode_steps
        shown = [f"`{key}` {made.shows[key].shape}" if key in made.shows else f"`{key}`" for key in own.obs_keys]
        seen = "dict: " + ", ".join(shown) if own.obs_mode == "dict" else f"`{own.obs_mode}`"
        frames = steps * WorldSpec().chunk_frames
        lines.append(
            f"| `worldenv/{name}-v{VERSION}` | `worldenv/{name}Sim-v{VERSION}` | {seen} | `{own.action_mode}` | {says} "
            f"| {steps} steps, {frames:,} frames |"
        )
    return lines
