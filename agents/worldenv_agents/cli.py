"""The ``worldenv-agents`` command: train a policy, evaluate policies. Imports wait for the command that needs them."""

# No postponed annotations here: tyro reads the types of the nested functions below.
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro


def train(arguments: list[str]) -> None:
    """train a policy: worldenv-agents train ppo --env worldenv/Navigate-v0 --out runs/navigate --steps 20000"""
    from .ppo import PPOConfig
    from .ppo import train as train_ppo

    name = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if name != "ppo" and not {"-h", "--help"} & set(arguments):
        raise ValueError(f"unknown algorithm {name!r}: worldenv-agents train ALGORITHM ..., ALGORITHM one of ppo")

    default = PPOConfig()

    def run(*, out: Path, resume: bool = False, tensorboard: bool = False, config: PPOConfig = default) -> None:
        """Train PPO (Stable-Baselines3) on a vector env; every step of it is one batched call of the world's model.

        Writes policy.safetensors, policy.json, log.jsonl (return and success rate per rollout), and after each update
        a checkpoint. Afterwards: worldenv-agents eval ppo:OUT random --env ID

        Args:
            out: folder to write to.
            resume: go on from the checkpoint in the folder, also with more --steps; the episodes under way are lost.
            tensorboard: log to the folder for TensorBoard too (extra: tensorboard).
            config: what to learn on, and how.
        """
        train_ppo(config, out=out, progress=True, resume=resume, tensorboard=tensorboard)
        print(f"wrote {out}; evaluate it: worldenv-agents eval ppo:{out} random --env {config.environment.env}")

    flags = (tyro.conf.OmitArgPrefixes,)
    tyro.cli(run, args=arguments[1:] if name else arguments, prog="worldenv-agents train ppo", config=flags)


def evaluate(arguments: list[str]) -> None:
    """compare policies: worldenv-agents eval ppo:runs/navigate seek_goal random --env worldenv/Navigate-v0"""
    from .environments import EnvConfig

    default = EnvConfig()

    def run(
        policies: tyro.conf.Positional[tuple[str, ...]],
        /,
        *,
        episodes: int = 64,
        num_envs: int = 16,
        first_seed: int = 0,
        twin: bool = False,
        out: Path | None = None,
        config: EnvConfig = default,
    ) -> None:
        """Run policies on the same episodes and print a table of returns and success rates.

        Policies: random, seek_goal (Navigate), out_and_back (Revisit), "follow:w-8, right-8", ppo:DIR (its most
        likely actions), ppo_sampled:DIR (as it explored; better where training was short). Each sets the
        action and observation modes that it needs; random takes what --action-mode says. Intervals are 95 % bootstrap
        intervals of the mean over episodes.

        Args:
            policies: one or more policies.
            episodes: episodes of each; episode i has seed first_seed + i.
            num_envs: envs stepped together.
            first_seed: seed of the first episode.
            twin: run on the generated world and on the simulator as well, to see what carries over.
            out: JSON file for the numbers.
            config: where to run.
        """
        if not policies:
            raise ValueError("name at least one policy, such as: worldenv-agents eval random seek_goal")
        run_table(policies, config, episodes=episodes, num_envs=num_envs, first_seed=first_seed, twin=twin, out=out)

    tyro.cli(run, args=arguments, prog="worldenv-agents eval", config=(tyro.conf.OmitArgPrefixes,))


def run_table(policies: tuple[str, ...], config: Any, *, twin: bool, out: Path | None, **how: int) -> None:
    """Evaluate every policy on every dynamics; print a table, write JSON."""
    from dataclasses import replace
    from functools import partial

    from rich.console import Console
    from rich.table import Table

    from worldenv.base.files import save_text
    from worldenv.base.log import progress_bar

    from .environments import check_env
    from .evaluate import evaluate_named
    from .registry import find_policy

    check_env(config.env)
    for name in policies:
        find_policy(name)
    places = [replace(config, dynamics=kind) for kind in ("world", "sim")] if twin else [config]
    table = Table(
        "policy", "dynamics", "return", "95 % interval", "success", "95 % interval", "steps", title=config.env
    )
    rows = []
    with progress_bar() as bar:
        for place in places:
            for name in policies:
                task = bar.add_task(name, total=how["episodes"])
                scores = evaluate_named(name, place, **how, on_batch=partial(advance, bar, task))
                rows.append({"policy": name, "dynamics": dynamics_of(place), **scores.summary()})
                table.add_row(name, dynamics_of(place), *cells(rows[-1]))
    Console(width=110 if not sys.stdout.isatty() else None).print(table)
    if out is not None:
        save_text(out, json.dumps({"env": config.env, **how, "rows": rows}, indent=1, allow_nan=False) + "\n")


def advance(bar: Any, task: Any, count: int) -> None:
    """Show how many episodes are done."""
    bar.update(task, completed=count)


def dynamics_of(config: Any) -> str:
    """Name what answers in this environment."""
    return config.dynamics or ("sim" if "Sim-v" in config.env else "world")


def cells(row: dict[str, Any]) -> list[str]:
    """Format the numbers of one row of the table."""
    (low, high), (worst, best) = row["returns"]["ci95"], row["success"]["ci95"]
    returns = [f"{row['returns']['mean']:.3f}", f"{low:.3f} to {high:.3f}"]
    return [*returns, f"{row['success']['mean']:.0%}", f"{worst:.0%} to {best:.0%}", f"{row['lengths']['mean']:.1f}"]


COMMANDS: dict[str, Callable[[list[str]], None]] = {"train": train, "eval": evaluate}


def usage() -> str:
    """List the commands."""
    lines = [f"  {name:6s} {(function.__doc__ or '').strip()}" for name, function in COMMANDS.items()]
    return "usage: worldenv-agents COMMAND ...\n\n" + "\n".join(lines) + "\n\nworldenv-agents COMMAND --help explains."


def main() -> None:
    """Run a command; an expected failure is one line on stderr and exit status 1."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name not in COMMANDS:
        sys.exit(f"worldenv-agents: unknown command {name!r}; choose one of {', '.join(COMMANDS)}")
    try:
        COMMANDS[name](arguments)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"worldenv-agents {name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
