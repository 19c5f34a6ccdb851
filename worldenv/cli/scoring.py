"""Commands that score worlds: the suites of eval, bench-data, verify-reference."""

# No postponed annotations here: tyro reads the types of the nested functions below.
import sys
from pathlib import Path
from typing import Literal

import tyro


def evaluate(arguments: list[str]) -> None:
    """score a world: revisit (does a place stay the same), short_term, drift, memory, action (does it obey), ..."""
    from ..eval.suites.evaluate import SUITES, run_suite

    suite = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if suite == "compare":
        return compare_reports(arguments[1:])
    if suite == "ablations":
        return ablations(arguments[1:])
    if suite not in SUITES and not {"-h", "--help"} & set(arguments):
        raise ValueError(
            f"unknown suite {suite!r}: worldenv eval SUITE ..., SUITE one of {', '.join(SUITES)}, ablations"
        )

    def run(
        *, out: Path, world: str = "maze", worlds: int | None = None, first_seed: int | None = None,
        videos: Path | None = None, manifest: Path | None = None, dynamics: str = "", weights: Path | None = None,
    ) -> None:  # fmt: skip
        """Run a suite and write report.json, report.md, trajectories.csv and pictures to a folder.

        Suites: revisit (out and back, circles, turns: is a place the same when one returns), short_term (61 frames
        against ground truth), rendering (memory rendered into the coming view: beside learned memory, alone, with wrong
        depth, without a model), drift (64 chunks), memory (both papers' memories at several budgets), ablations (worlds
        trained differently), action (turns obeyed), reconstruction (the VAE alone), depth (the depth head's errors),
        geometry (the simulator). An interrupted run goes on when the same command is given again.

        Args:
            out: folder to write to.
            world: packaged name, directory or hub:org/name.
            worlds: number of held-out mazes, or of start views for action; by default all that are published.
            first_seed: draw other cases, from this map seed on (or start view, for action).
            videos: folder of clips made elsewhere, to score instead of a world.
            manifest: the cases they were made for, from worldenv bench-data.
            dynamics: package.module:Class of any Dynamics, to step instead of a world.
            weights: folder with the weights of published metrics (LPIPS, FID, ...); pydoc worldenv.eval.learned lists
                the files. Without them those metrics are named as skipped.
        """
        if videos is not None or dynamics:
            from ..eval.suites.external import score_dynamics, score_videos

            if videos is not None:
                score_videos(suite, videos, manifest, out, weights=weights)
            else:
                score_dynamics(suite, dynamics, out, num_worlds=worlds, first_seed=first_seed, weights=weights)
            return
        run_suite(suite, world, out, num_worlds=worlds, first_seed=first_seed, weights=weights)

    tyro.cli(run, args=arguments[1:] if suite else arguments, prog=f"worldenv eval {suite or 'SUITE'}")


def ablations(arguments: list[str]) -> None:
    """Compare worlds that were trained differently."""

    def run(
        *, out: Path, table: Path | None = None, arms: tuple[str, ...] = (), seeds: tuple[int, ...] = (),
        processes: int | None = None, runs: Path | None = None, worlds: int | None = None,
        first_seed: int | None = None, suite: Literal["revisit", "short_term", "drift", "memory"] | None = None,
        primary: str = "", given: int = 0,
    ) -> None:  # fmt: skip
        """Train the arms of a table and judge what it claims, or compare worlds that are there (--arms).

        Tables (configs/ablations, one command each: worldenv eval ablations --table FILE --out DIR): table3 discrete,
        continuous and dual actions; table4 reframed positions against absolute ones; table6 before and after
        distillation; table7 sizes of memory; figure8 misaligned memory and self-rolled history in distillation;
        memory with retrieval, recent frames only, none. The same command goes on after an interruption.

        Args:
            out: folder for the report.
            table: file of claims, stages and arms; what it lacks is recorded and trained first.
            arms: NAME=DIR of each; NAME@1=DIR NAME@2=DIR for training seeds; NAME=DIR,sampler.num_steps=16 to step it
                otherwise. The claim is that the first is better than each other.
            seeds: training seeds of a table, by default all in its file. Five are needed to call a claim reproduced.
            processes: runs that are trained at a time; by default one per CPU core, or per four on a GPU machine.
            runs: folder for training runs, which tables share; by default runs, beside out.
            worlds: number of held-out mazes; by default what the table says, or all that are published.
            first_seed: draw other cases, from this map seed on.
            suite: what --arms step through, by default revisit; drift is 64 chunks.
            given: chunks at the beginning of every path that --arms remember as they truly were; they make the rest.
            primary: metric that decides between --arms, by default return_psnr_gt_far; frechet_pose_features_unseen and
                others of eval.suites.figures are judged beside it, as PSNR rewards blur where nothing is known.
        """
        from ..ablations.run import run_ablations, run_table
        from ..eval.report.claims import PRIMARY

        if table is not None and arms:
            raise ValueError("--table trains its own arms; pass --table or --arms")
        if table is None and (seeds or processes or runs):
            raise ValueError("--seeds, --processes and --runs train the arms of a --table")
        if table is not None and (suite or primary or given):
            raise ValueError(
                "--suite, --primary and --given are for --arms; a --table says what its arms are judged by"
            )
        if table is None:
            run_ablations(
                arms, out, num_worlds=worlds, first_seed=first_seed, suite=suite or "revisit",
                primary=primary or PRIMARY, given=given,
            )  # fmt: skip
        else:
            run_table(table, out, runs=runs, seeds=seeds, processes=processes, num_worlds=worlds, first_seed=first_seed)

    tyro.cli(run, args=arguments, prog="worldenv eval ablations")


def compare_reports(arguments: list[str]) -> None:
    """Put two reports side by side."""

    def run(first: tyro.conf.Positional[Path], second: tyro.conf.Positional[Path], /) -> None:
        """Put two reports of one suite side by side.

        Args:
            first: report.json, or the folder that holds it.
            second: the other one.
        """
        from ..eval.report.document import compare

        compare(first, second)

    tyro.cli(run, args=arguments, prog="worldenv eval compare")


def bench_data(arguments: list[str]) -> None:
    """hand out a suite's start images, actions, poses and ground truth"""

    def run(
        suite: tyro.conf.Positional[Literal["revisit", "short_term", "drift", "memory"]], /, *, out: Path,
        worlds: int | None = None, first_seed: int | None = None, maze: str = "classic",
    ) -> None:  # fmt: skip
        """Write a suite's cases to a folder, for people with their own model (see --videos of eval).

        Args:
            suite: whose cases.
            out: folder to write to.
            worlds: number of held-out mazes; by default all that are published.
            first_seed: draw other cases, from this map seed on.
            maze: classic (cases of revisit-v1), or classic-objects or plain-objects (revisit-v2).
        """
        from ..eval.suites.external import write_cases

        write_cases(suite, out, num_worlds=worlds, first_seed=first_seed, maze=maze)

    tyro.cli(run, args=arguments, prog="worldenv bench-data")


def verify_reference(arguments: list[str]) -> None:
    """compare ours with golden tensors of the released WorldPlay, rung by rung"""

    def run(folder: tyro.conf.Positional[Path], /, *, tolerance: float = 1e-4, approximate: bool = False) -> None:
        """Run the released transformer, memory and VAE on golden tensors; exit 1 past the tolerance.

        Args:
            folder: config.json, transformer, vae, forward and rollout (.safetensors).
            tolerance: largest difference that passes, relative to the largest value.
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

    tyro.cli(run, args=arguments, prog="worldenv verify-reference")
