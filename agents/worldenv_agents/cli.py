"""The ``worldenv-agents`` command: train a policy, evaluate and rank policies, plan.

Imports wait for the command that needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from worldenv.base.interrupts import answering
from worldenv.base.objects import import_object, look_here, nearest
from worldenv.base.said import show_any_name

from .learners import LEARNERS, config_class, find_learner


def settings(name: str) -> Any:
    """Return the type of a parameter whose flags are the fields of a dataclass, imported when a command takes it."""
    return Annotated[Any, tyro.conf.arg(constructor_factory=partial(import_object, name, what="settings"))]


if TYPE_CHECKING:
    from .action_chunks import CloningConfig
    from .environments import EnvConfig
    from .gain import GainConfig
    from .planners.closed_loop import Where
    from .planners.planner import PlannerConfig
    from .policy import LearnerConfig
else:
    CloningConfig = settings("worldenv_agents.action_chunks:CloningConfig")
    Where = Literal["world", "floor", "blank"]
    PlannerConfig = settings("worldenv_agents.planners.planner:PlannerConfig")
    GainConfig = settings("worldenv_agents.gain:GainConfig")
    EnvConfig = settings("worldenv_agents.environments:EnvConfig")
    LearnerConfig = Annotated[Any, tyro.conf.arg(constructor_factory=lambda: learner_named(sys.argv[2:3]))]


def learner_named(words: Sequence[str]) -> type[Any]:
    """Return the settings of the algorithm that words begin with, those of PPO where they name none."""
    return config_class(words[0] if words and words[0] in LEARNERS else "ppo")


def train(
    algorithm: tyro.conf.Positional[str],
    /,
    *,
    out: Path,
    resume: bool = False,
    tensorboard: bool = False,
    config: LearnerConfig,
) -> None:
    """Train a policy: worldenv-agents train ppo --env worldenv/Navigate-v0 --out runs/navigate --steps 20000

    Args:
        algorithm: ppo (Stable-Baselines3), or imagination, an actor-critic on short episodes that begin at a generated
            world's recorded moments; each has settings of its own (worldenv-agents train imagination --help). Every
            step is one batched call of the world's model.
        out: folder for policy.safetensors, policy.json, log.jsonl (return and success rate per rollout), and after
            each update a checkpoint. Afterwards: worldenv-agents eval ALGORITHM:OUT random --env ID
        resume: go on from the checkpoint in the folder, also with more --steps; ppo loses the episodes under way.
        tensorboard: log to the folder for TensorBoard too (extra: tensorboard).
        config: what to learn on, and how.
    """
    from .policy import train as learn

    find_learner(algorithm)
    if config.kind != algorithm:
        raise ValueError(f"name the algorithm first: worldenv-agents train {algorithm} --out {out}")
    config.environment.check_used()
    learn(config, out=out, progress=True, resume=resume, tensorboard=tensorboard)
    print(f"wrote {out}; evaluate it: worldenv-agents eval {algorithm}:{out} random --env {config.environment.env}")


def clone(recording: tyro.conf.Positional[Path], /, *, out: Path, config: CloningConfig) -> None:
    """Clone recorded hands: worldenv-agents clone runs/hand/train/place --out runs/cloned --episodes 50

    Args:
        recording: from worldenv record --env hand/place (or lift, push); its expert episodes are learned from.
        out: folder for policy.safetensors. Afterwards, in the simulator and in a world: worldenv-agents eval cloned:OUT
            --env worldenv/HandPlaceSim-v0, and --env worldenv/HandPlace-v0.
        config: what is cloned, and how.
    """
    from .cloning import clone as learn

    learn(recording, config, out)
    print(f"wrote {out}; evaluate it: worldenv-agents eval cloned:{out} expert --env worldenv/HandPlaceSim-v0")


def evaluate(
    policies: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    episodes: int = 64,
    num_envs: int = 16,
    first_seed: int = 0,
    twin: bool = False,
    out: Path | None = None,
    config: EnvConfig,
) -> None:
    """Compare policies: worldenv-agents eval ppo:runs/navigate seek_goal random --env worldenv/Navigate-v0

    Args:
        policies: one or more of random, wander, chase (ObjectNav), seek_goal and straight (Navigate), out_and_back
            (Revisit-v0), retrace (Revisit-v1), "follow:w-8, right-8", epsilon:SHARE:POLICY (a share of its steps are
            random), expert and noisy:LEVEL (hands; 0 is the expert, 1 hardly succeeds), cloned:DIR (hands), ppo:DIR
            (its most likely actions), ppo_sampled:DIR (as it explored; better where training was short), and so
            imagination:DIR and imagination_sampled:DIR. Each sets the action and observation modes that it needs;
            random takes what --action-mode says.
        episodes: episodes of each; episode i has seed first_seed + i. Intervals are 95 % bootstrap intervals of the
            mean over episodes.
        num_envs: envs stepped together.
        first_seed: seed of the first episode.
        twin: run on the generated world and on the simulator as well, to see what carries over.
        out: JSON file for the numbers.
        config: where to run.
    """
    from .scores import run_table

    if not policies:
        raise ValueError("name at least one policy, such as: worldenv-agents eval random seek_goal")
    run_table(policies, config, episodes=episodes, num_envs=num_envs, first_seed=first_seed, twin=twin, out=out)


def gain(*, out: Path, config: GainConfig) -> None:
    """Ask whether a world is good to train in: worldenv-agents gain --world runs/breakout/world --sim-env
    MinAtar/Breakout-v1 --steps 100000 --out runs/breakout/gain

    PPO is trained inside alone and scored in the environment that the world was made of, beside PPO on as many real
    frames as the world was made of, PPO that sees nothing, and chance; with --arms world imagination ... also beside
    the actor-critic of short imagined episodes after as many decisions; several policies each. Writes report.json,
    report.md and curves.png (imagined against real return over training). The same command goes on where it stopped,
    also with more --seeds or --arms.

    Args:
        out: folder of the comparison; each policy has one in it, for worldenv-agents eval ppo:OUT/world-0.
        config: what is compared.
    """
    from .gain import gain as compare

    compare(config, out)
    print((out / "report.md").read_text())


def loop(table: tyro.conf.Positional[Path], /, *, out: Path, seeds: tuple[int, ...] = ()) -> None:
    """Run a table of trained policies: worldenv-agents loop configs/loops/revisit_transfer.toml --out out/loops/revisit

    Trains PPO in each of the table's arms (worlds with one memory or another, the simulator, blank pictures) and scores
    it in the simulator, at starts that no policy was trained at. Writes report.json, report.md, curves.png (learning
    curves, imagined against real), fidelity.png and videos. The same command goes on where it stopped.

    Args:
        table: a file as in configs/loops: claim, metric, task, arms, seeds. What was said in it before the first run
            (registered.json) cannot be changed.
        out: folder of the table; each policy has one in it, for worldenv-agents eval ppo:OUT/ARM-SEED.
        seeds: of the policies of each arm, instead of the table's; they may become more.
    """
    from .loop import run_loop

    run_loop(table, out, seeds=seeds)
    print((out / "report.md").read_text())


def rank(
    policies: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    out: Path,
    episodes: int = 16,
    num_envs: int = 8,
    first_seed: int = 0,
    ray: str = "",
    horizons: tuple[int, ...] = (4, 8, 16, 32),
    config: EnvConfig,
) -> None:
    """Rank policies in a world and in its simulator: worldenv-agents rank --env worldenv/Navigate-v1 --out runs/rank

    Args:
        policies: three or more, named as in eval; by default a dozen, scripted and with random steps in between
            (epsilon:SHARE:POLICY).
        out: folder for report.json, report.md, ranking.png and the episodes; what lies there is not run again, and
            what was said of it before it was run (registered.json) cannot be changed.
        episodes: episodes of each policy in each of both; episode i has seed first_seed + i.
        num_envs: envs stepped together.
        first_seed: seed of the first episode.
        horizons: steps after which they are compared; episodes end at the last of them.
        ray: HOST:PORT of a Ray cluster that runs the batches of episodes, or local; the episodes are the same.
        config: where to run.
    """
    from worldenv.base.log import progress_bar

    from .environments import check_env
    from .rank import default_policies
    from .rank import rank as run_rank

    check_env(config.env)
    chosen = policies or default_policies(config.env)
    with progress_bar() as bar:
        task = bar.add_task("rank", total=episodes)
        how = {"episodes": episodes, "num_envs": num_envs, "first_seed": first_seed, "ray": ray, "horizons": horizons}
        run_rank(chosen, config, out=out, **how, on_batch=partial(retitle, bar, task))  # type: ignore[arg-type]
    print((out / "report.md").read_text())


def plan(
    *,
    out: Path,
    imagine: tuple[Where, ...] | None = None,
    rollouts: tuple[int, ...] = (1, 8, 32),
    policies: tuple[str, ...] | None = None,
    episodes: int = 16,
    num_envs: int = 8,
    first_seed: int = 0,
    ray: str = "",
    planning: PlannerConfig,
    config: EnvConfig,
) -> None:
    """Plan in a world, act in its simulator: worldenv-agents plan --env worldenv/Navigate-v1 --out runs/plan

    Args:
        out: folder for report.json, report.md, planning.png and the episodes; what lies there is not run again, and
            what was said of it before it was run (registered.json) cannot be changed.
        imagine: what plans are tried in: world (generated), floor (what its memory knows of walls, no picture is made),
            blank (the last frame and no walls). All of them by default, of hands the world alone.
        rollouts: plans imagined for a decision, one arm for each number.
        policies: who acts in the simulator without a plan; by default random, straight, seek_goal and follow:w-192, in
            ObjectNav wander and chase instead of the two in the middle, of hands random and expert; "" for nobody.
        episodes: episodes of each arm; episode i has seed first_seed + i.
        num_envs: episodes that are planned for together; memory grows with num_envs * rollouts * lookahead.
        first_seed: seed of the first episode.
        planning: how a decision is made.
        ray: HOST:PORT of a Ray cluster that runs the batches of episodes, or local; the episodes are the same.
        config: where to act; what is rewarded there is what plans are scored by.
    """
    from worldenv.base.log import progress_bar

    from .environments import check_env
    from .planners.compare import compare_planning, default_places, default_policies

    check_env(config.env)
    imagine = default_places(config.env) if imagine is None else imagine
    chosen = [name for name in (default_policies(config.env) if policies is None else policies) if name]
    how = {"episodes": episodes, "num_envs": num_envs, "first_seed": first_seed, "ray": ray}
    arms = {"imagine": imagine, "rollouts": rollouts, "policies": chosen}
    with progress_bar() as bar:
        task = bar.add_task("plan", total=episodes)
        compare_planning(config, planning, out=out, **arms, **how, on_batch=partial(retitle, bar, task))  # type: ignore[arg-type]
    print((out / "report.md").read_text())


def retitle(bar: Any, task: Any, what: str, count: int) -> None:
    """Show what is done, and how many episodes of it."""
    bar.update(task, description=what, completed=count)


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": train,
    "clone": clone,
    "eval": evaluate,
    "gain": gain,
    "loop": loop,
    "rank": rank,
    "plan": plan,
}


def main() -> None:
    """Run a command; an expected failure is one line on stderr and exit status 1."""
    arguments = sys.argv[1:] or ["--help"]
    name = arguments[0]
    if name not in COMMANDS and not name.startswith("-"):
        known = f"choose one of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}"
        sys.exit(f"worldenv-agents: unknown command {name!r}; {known}")
    chosen = {name: COMMANDS[name]} if name in COMMANDS else COMMANDS
    flags = (tyro.conf.OmitArgPrefixes,)
    look_here()
    show_any_name()
    with answering(f"worldenv-agents {name}", "; what is finished stays"):
        tyro.extras.subcommand_cli_from_dict(chosen, prog="worldenv-agents", args=arguments, config=flags)


if __name__ == "__main__":
    main()
