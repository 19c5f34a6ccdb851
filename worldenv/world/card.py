"""What a shared world says of itself: a model card from its provenance and reports, and LeRobot's ``env.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.documents import read_json
from .world import World

KNOWN_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0")
"""Those that a hub knows by these names; others are ``other``, named beside."""
ARMS = ("simulator", "none", "last_frame")
"""Arms of a report that a card shows beside the world's own, which stands first."""
METRICS = ("psnr", "return_psnr_self", "return_psnr_gt", "seen_psnr", "unseen_psnr", "action_score", "open_loop_psnr")
"""Metrics of a report that a card shows, if any of them is there; else the first six."""


def read_reports(paths: Sequence[Path], world: World) -> list[dict[str, Any]]:
    """Read reports of suites.

    Raises:
        ValueError: if one is no report, or of another world.
    """
    reports = []
    for path in paths:
        try:
            report = read_json(path)
            measured = report["world"]["sha256"]
            assert isinstance(report["arms"], dict)
        except (OSError, ValueError, KeyError, TypeError, AssertionError):
            raise ValueError(f"{path}: no report of a suite; pass report.json, from worldenv eval") from None
        if measured != world.sha256:
            raise ValueError(
                f"{path} is of a world with sha256 {measured[:12] or 'none'}, this one has {world.sha256[:12]}; "
                "evaluate this one"
            )
        reports.append(report)
    return reports


def write_card(world: World, name: str, reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the card (README.md) of a world that is to be called ``org/name`` on a hub."""
    licence = world.config.licence
    known = licence.lower() in KNOWN_LICENCES
    head = [
        "---",
        f"license: {licence.lower() if known else 'other'}",
        *([] if known else [f"license_name: {licence}"]),
    ]
    head += [
        "library_name: worldenv",
        "tags:",
        *(f"- {tag}" for tag in ("worldenv", "world-model", "gymnasium")),
        "---",
    ]
    parts = [
        "\n".join(head),
        f"# {name.partition('/')[2]}",
        f"A generated world of [worldenv](https://pypi.org/project/worldenv/), stepped as a batched Gymnasium "
        f"environment. Licence of the weights: {licence}. sha256 {world.sha256}.",
        _use(world, name),
        _limits(world),
        _training(world),
        "## Scores",
        *(map(_scores, reports) if reports else ["Nobody has handed in a report of a suite: nothing is measured."]),
    ]
    return "\n\n".join(parts) + "\n"


def env_id(world: World) -> str | None:
    """Return the environment that shows a world best by default: its own rewards, or the way back; None if neither."""
    if "reward" in world.heads:
        return "worldenv/World-v0"
    if not world.spec.has_camera or world.starts is None:
        return None
    return "worldenv/Revisit-v0" if world.clips is None else "worldenv/Revisit-v1"


def write_env(world: World, name: str) -> str | None:
    """Return ``env.py`` for LeRobot's EnvHub; None if the world fits no environment as it stands."""
    made = env_id(world)
    return None if made is None else ENV.replace("ENV_ID", made).replace("HUB_NAME", name)


ENV = '''"""LeRobot's EnvHub: this world as a vector environment (pip install worldenv)."""

from pathlib import Path

import gymnasium as gym

import worldenv  # noqa: F401  registers the ids


def make_env(n_envs: int = 1, use_async_envs: bool = False, **kwargs):
    """Return {suite: {task: vector environment}}: one batch of one model, in which nothing is asynchronous."""
    folder = Path(__file__).resolve().parent
    world = str(folder) if (folder / "world.toml").is_file() else "hub:HUB_NAME"
    kwargs.pop("cfg", None)
    return {"worldenv": {0: gym.make_vec("ENV_ID", num_envs=n_envs, world=world, **kwargs)}}
'''


def _use(world: World, name: str) -> str:
    made = env_id(world) or "worldenv/Revisit-v0"
    return (
        "```python\nimport gymnasium as gym, worldenv\n\n"
        f'envs = gym.make_vec("{made}", num_envs=4, world="hub:{name}")\n'
        "obs, info = envs.reset(seed=0)\n```\n\n"
        f'`World.from_pretrained("hub:{name}", sha256="{world.sha256}")` takes these very files and no others.'
    )


def _limits(world: World) -> str:
    spec, config = world.spec, world.config
    chunks = sorted({spec.chunk_latents, *config.trained.chunk_latents})
    begins = f"{len(world.starts)} start views" if world.starts is not None else "no start views of its own"
    begins += "" if world.clips is None else f", {len(world.clips)} recorded clips"
    recorded = "; ".join(dict.fromkeys(stage.data for stage in config.provenance if stage.data)) or "nobody says what"
    return "\n".join(
        [
            "## Limits",
            "",
            f"* Pictures of {spec.width} x {spec.height}, {spec.fps} a second of world time; a step is "
            f"{spec.chunk_frames} frames. Trained for chunks of {', '.join(map(str, chunks))} latents and "
            f"{config.sampler.num_steps} denoising steps.",
            f"* Commanded by {', '.join(spec.takes)}; gives {', '.join(spec.gives) or 'frames alone'}.",
            f"* Episodes begin at {begins}, or at pictures of yours. What was never seen is invented.",
            f"* Recorded from: {recorded}. Of anything else it knows nothing.",
            f"* Text prompts: {'yes' if world.prompts is not None else 'none'}. Licence of what it was trained on: ask "
            "who made it.",
        ]
    )


def _training(world: World) -> str:
    stages = [
        f"| {stage.stage} | {stage.steps} | {stage.data or '-'} | {stage.hours:g} h, {stage.hardware} | {stage.git} | "
        f"{stage.seed} |"
        for stage in world.config.provenance
    ]
    if not stages:
        return "## Training\n\nNo stage is written down."
    columns = ["| stage | steps | data | took | code | seed |", "|---|---|---|---|---|---|"]
    return "\n".join(["## Training", "", *columns, *stages])


def _scores(report: Mapping[str, Any]) -> str:
    """Return a table of a report's first arm beside the controls."""
    arms = report["arms"]
    shown = [arm for i, arm in enumerate(arms) if i == 0 or arm in ARMS]
    first = arms[shown[0]]
    metrics = [name for name in METRICS if name in first] or list(first)[:6]
    lines = [f"| | {' | '.join(metrics)} |", f"|---|{'---|' * len(metrics)}"]
    lines += [f"| {arm} | {' | '.join(_cell(arms[arm].get(name)) for name in metrics)} |" for arm in shown]
    skipped = "".join(f"\nNot measured: {name} ({reason})." for name, reason in report.get("skipped", {}).items())
    where = f"Suite {report['suite']} ({report.get('protocol', '')}), {report.get('hardware', 'unknown hardware')}"
    return "\n".join([f"{where}; mean [95 % interval].", "", *lines]) + ("\n" + skipped if skipped else "")


def _cell(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "-"
    interval = summary.get("ci95")
    return f"{summary['mean']:.3g}" + (f" [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else "")
