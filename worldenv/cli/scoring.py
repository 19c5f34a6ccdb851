"""Commands that score worlds: the suites of eval, bench-data, verify-reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import tyro

SUITES = {
    "revisit": "Is a place the same when one returns? Out and back, circles, turns.",
    "short_term": "61 frames against ground truth.",
    "rendering": "Memory rendered into the coming view: beside learned memory, alone, with wrong depth.",
    "drift": "Does the picture hold over 64 chunks?",
    "memory": "Both papers' memories at several budgets.",
    "action": "Are turns obeyed?",
    "reconstruction": "The VAE alone.",
    "depth": "The depth head's errors.",
    "display": "The display decoder beside enlarging.",
    "walls": "Do walls stop a body where the simulator's do?",
    "geometry": "The simulator.",
    "open_loop": "Recorded clips continued as commanded (--recording): any world, with a camera or without.",
    "heads": "Reward and end of recorded episodes (--recording), on true and on generated frames.",
    "manipulation": "Hands (--recording): is the object where it is, and done what is done, under the same commands?",
    "demo": "What worldenv demo shows.",
}
"""What each suite asks; ``eval.suites.evaluate`` has them."""


def score(
    suite: str,
    /,
    *,
    out: Path,
    world: str = "maze",
    worlds: int | None = None,
    first_seed: int | None = None,
    videos: Path | None = None,
    manifest: Path | None = None,
    dynamics: str = "",
    recording: Path | None = None,
    weights: Path | None = None,
    ray: str = "",
) -> None:
    """Score a world on a suite.

    Args:
        suite: which one.
        out: folder for report.json, report.md, trajectories.csv and pictures; an interrupted run goes on when the same
            command is given again.
        world: packaged name, directory or hub:org/name.
        worlds: number of held-out mazes, or of start views for action; by default all that are published.
        first_seed: draw other cases, from this map seed on (or start view, for action).
        videos: folder of clips made elsewhere, to score instead of a world.
        manifest: the cases they were made for, from worldenv bench-data.
        dynamics: package.module:Class of any Dynamics, to step instead of a world.
        recording: held-out clips that open_loop, heads and manipulation continue, from worldenv record.
        weights: folder with the weights of published metrics (LPIPS, FID, FVD, ...), for manipulation and the suites
            that step worlds along cases; pydoc worldenv.eval.learned lists the files. Without them those metrics are
            named as skipped.
        ray: HOST:PORT of a Ray cluster that steps the batches of cases, or local; the numbers are the same.
    """
    if manifest is not None and videos is None:
        raise ValueError("--manifest says what the clips of --videos were made for; pass both, or neither")
    if ray and (videos is not None or dynamics):
        raise ValueError("--ray steps worlds; leave it out with --videos and --dynamics")
    if videos is not None:
        from ..eval.suites.external import score_videos

        score_videos(suite, videos, manifest, out, weights=weights)
    elif dynamics:
        from ..eval.suites.external import score_dynamics

        score_dynamics(suite, dynamics, out, num_worlds=worlds, first_seed=first_seed, weights=weights)
    else:
        from ..eval.suites.evaluate import run_suite

        run_suite(
            suite, world, out, num_worlds=worlds, first_seed=first_seed, weights=weights, recording=recording, ray=ray
        )


def ablations(
    *,
    out: Path,
    table: Path | None = None,
    arms: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    processes: int | None = None,
    runs: Path | None = None,
    worlds: int | None = None,
    first_seed: int | None = None,
    suite: Literal["revisit", "short_term", "drift", "memory"] | None = None,
    primary: str = "",
    given: int = 0,
    ray: str = "",
) -> None:
    """Compare worlds that were trained differently.

    Args:
        out: folder for the report; the same command goes on after an interruption.
        table: file of claims, stages and arms; what it lacks is recorded and trained first. In configs/ablations:
            table3 discrete, continuous and dual actions; table4 reframed positions against absolute ones; table6 before
            and after distillation; table7 sizes of memory; figure8 misaligned memory and self-rolled history in
            distillation; memory with retrieval, recent frames only, none; consistency with losses on depth and views;
            cameras by PRoPE, Pluecker rays or both.
        arms: worlds that are there instead, NAME=DIR of each; NAME@1=DIR NAME@2=DIR for training seeds;
            NAME=DIR,sampler.num_steps=16 to step it otherwise. The claim is that the first is better than each other.
        seeds: training seeds of a table, by default all in its file. Five are needed to call a claim reproduced.
        processes: runs that are trained at a time; by default one per CPU core, or per four on a GPU machine.
        runs: folder for training runs, which tables share; by default runs, beside out.
        worlds: number of held-out mazes; by default what the table says, or all that are published.
        first_seed: draw other cases, from this map seed on.
        suite: what --arms step through, by default revisit; drift is 64 chunks.
        given: chunks at the beginning of every path that --arms remember as they truly were; they make the rest.
        primary: metric that decides between --arms, by default return_psnr_gt_far; frechet_pose_features_unseen and
            others of eval.suites.figures are judged beside it, as PSNR rewards blur where nothing is known.
        ray: HOST:PORT of a Ray cluster that trains the runs and steps the cases, whose machines all see the folders,
            or local; the numbers are the same.
    """
    from ..ablations.run import run_ablations, run_table
    from ..eval.report.claims import PRIMARY

    if table is None:
        if seeds or processes or runs:
            raise ValueError("--seeds, --processes and --runs train the arms of a --table")
        suite, primary = suite or "revisit", primary or PRIMARY
        run_ablations(
            arms, out, num_worlds=worlds, first_seed=first_seed, suite=suite, primary=primary, given=given, ray=ray
        )
    elif arms:
        raise ValueError("--table trains its own arms; pass --table or --arms")
    elif suite or primary or given:
        raise ValueError("--suite, --primary and --given are for --arms; a --table says what its arms are judged by")
    else:
        run_table(
            table,
            out,
            runs=runs,
            seeds=seeds,
            processes=processes,
            num_worlds=worlds,
            first_seed=first_seed,
            ray=ray,
        )


def compare(first: tyro.conf.Positional[Path], second: tyro.conf.Positional[Path], /) -> None:
    """Put two reports of one suite side by side.

    Args:
        first: report.json, or the folder that holds it.
        second: the other one.
    """
    from ..eval.report.document import compare as compare_reports

    compare_reports(first, second)


def bench_data(
    suite: tyro.conf.Positional[Literal["revisit", "short_term", "drift", "memory"]],
    /,
    *,
    out: Path,
    worlds: int | None = None,
    first_seed: int | None = None,
    maze: str = "classic",
) -> None:
    """Write a suite's cases, for your own model.

    Args:
        suite: whose start images, actions, poses and ground truth.
        out: folder to write to; eval SUITE --videos DIR --manifest MANIFEST scores what a model made of it.
        worlds: number of held-out mazes; by default all that are published.
        first_seed: draw other cases, from this map seed on.
        maze: classic (cases of revisit-v1), or classic-objects or plain-objects (revisit-v2).
    """
    from ..eval.suites.external import write_cases

    write_cases(suite, out, num_worlds=worlds, first_seed=first_seed, maze=maze)


def verify_reference(
    folder: tyro.conf.Positional[Path], /, *, tolerance: float = 1e-4, approximate: bool = False
) -> None:
    """Compare ours with tensors of the released WorldPlay.

    Args:
        folder: config.json, transformer, vae, forward and rollout (.safetensors).
        tolerance: largest difference that passes, relative to the largest value; past it the exit status is 1.
        approximate: also say how far the rollout is off with worldscape memory, which encodes nothing anew.
    """
    from ..eval.reference import approximation, print_rungs
    from ..eval.reference import verify_reference as verify

    rungs = verify(folder, tolerance=tolerance)
    print_rungs(rungs)
    if approximate:
        off = "  ".join(f"{value:.1%}" for value in approximation(folder))
        print(f"worldscape memory encodes nothing anew; its latents are off by (RMS, chunk by chunk): {off}")
    if not all(rung.passed for rung in rungs):
        sys.exit(1)
