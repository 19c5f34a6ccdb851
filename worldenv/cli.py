"""The ``worldenv`` command. Each subcommand imports what it needs, so that ``--help`` stays fast."""

# No postponed annotations here: tyro reads the types of the nested functions below.
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

Flat = tyro.conf.arg(name="")  # a nested configuration whose fields become flags without a prefix


def demo(arguments: list[str]) -> None:
    """step the packaged world out and back on held-out mazes: video, contact sheet, report"""

    def run(
        *, out: Path, world: str = "maze", worlds: int = 24, first_seed: int | None = None, chunks: int = 12
    ) -> None:  # fmt: skip
        """Step a world along out-and-back paths on held-out mazes, with memory and without.

        Writes demo.mp4, contact.png (the way out above the mirrored way back), memory_map.png and report.json. Needs
        the sims extra, for the true frames that everything is compared with.

        Args:
            out: folder to write to.
            world: packaged name, directory or hub id.
            worlds: number of mazes.
            first_seed: take other mazes, from this map seed on; held-out ones have seeds from 900,000 on.
            chunks: chunks of a path, half of them on the way out.
        """
        from .eval.evaluate import run_suite

        run_suite("demo", world, out, num_worlds=worlds, first_seed=first_seed, num_chunks=chunks)

    tyro.cli(run, args=arguments, prog="worldenv demo")


def record(arguments: list[str]) -> None:
    """record a simulator or any registered Gymnasium environment to shards"""
    from .base.config import load_toml
    from .base.log import Stopwatch, console
    from .data.record import RecordConfig
    from .data.record import record as record_clips

    path, rest = split_config(arguments)
    default = load_toml(RecordConfig, path) if path else RecordConfig()

    def run(*, out: Path, workers: int = 2, config: Annotated[RecordConfig, Flat] = default) -> None:
        """Record clips to HDF5 shards. --config F.toml gives defaults that flags override.

        Args:
            out: folder for the shards; the same call again goes on where it stopped.
            workers: processes.
            config: what to record.
        """
        watch = Stopwatch()
        frames = record_clips(config, out, workers=workers)
        if frames:
            console.print(f"{frames} frames in {watch.seconds():.1f} s, {frames / watch.seconds():.0f} frames/s")

    tyro.cli(run, args=rest, prog="worldenv record")


def train(arguments: list[str]) -> None:
    """train one stage: vae, decoder, bidirectional, causal, memory, teacher, context_forcing, ..., or pose"""
    from .base.config import load_toml
    from .training.parallel import is_launched, launch, leave
    from .training.stages import STAGES, TrainConfig
    from .training.stages import train as train_stage

    stage = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if stage == "pose":
        return train_pose(arguments[1:])
    if stage not in STAGES and not {"-h", "--help"} & set(arguments):
        raise ValueError(f"unknown stage {stage!r}: worldenv train STAGE ..., STAGE one of {', '.join(STAGES)} or pose")
    path, rest = split_config(arguments[1:] if stage else arguments)
    default = load_toml(TrainConfig, path) if path else TrainConfig()

    def run(
        *, out: Path, resume: bool = False, processes: int = 1, config: Annotated[TrainConfig, Flat] = default
    ) -> None:
        """Train one stage and write a world. --config F.toml gives defaults that flags override.

        Args:
            out: folder for checkpoints, logs, samples and the resulting world.
            resume: go on from the checkpoint in the folder.
            processes: share each batch among this many processes; on a CPU, one per core is fastest.
            config: what to train, on what.
        """
        if processes > 1 and not is_launched():
            launch(["train", *arguments], processes)
        else:
            train_stage(stage, config, out, resume=resume)
            leave()

    tyro.cli(run, args=rest, prog=f"worldenv train {stage or 'STAGE'}")


def train_pose(arguments: list[str]) -> None:
    """Train what measures camera motion in pictures, for ``worldenv eval``."""
    from .base.config import load_toml
    from .training.pose import PoseTrainConfig
    from .training.pose import train_pose as train_network

    path, rest = split_config(arguments)
    default = load_toml(PoseTrainConfig, path) if path else PoseTrainConfig()

    def run(*, out: Path, resume: bool = False, config: Annotated[PoseTrainConfig, Flat] = default) -> None:
        """Train the network that measures camera motion and write pose.safetensors. --config F.toml gives defaults.

        Args:
            out: folder for checkpoints, logs, samples and the network.
            resume: go on from the checkpoint in the folder.
            config: on what, with the artefacts of which world's VAE.
        """
        train_network(config, out, resume=resume)

    tyro.cli(run, args=rest, prog="worldenv train pose")


def evaluate(arguments: list[str]) -> None:
    """score a world: revisit (does a place stay the same), short_term, drift, memory, action (does it obey), ..."""
    from .eval.evaluate import SUITES, run_suite

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
        quantize: Literal["none", "int8"] = "none",
    ) -> None:  # fmt: skip
        """Run a suite and write report.json, report.md, trajectories.csv and pictures to a folder.

        Suites: revisit (out and back, circles, turns: is a place the same when one returns), short_term (61 frames
        against ground truth), drift (64 chunks), memory (both papers' memories at several budgets), ablations (worlds
        trained differently), action (turns obeyed), reconstruction (the VAE alone), geometry (the simulator). An
        interrupted run goes on when the same command is given again.

        Args:
            out: folder to write to.
            world: packaged name, directory or hub id.
            worlds: number of held-out mazes, or of start views for action; by default all that are published.
            first_seed: draw other cases, from this map seed on (or start view, for action).
            videos: folder of clips made elsewhere, to score instead of a world.
            manifest: the cases they were made for, from worldenv bench-data.
            dynamics: package.module:Class of any Dynamics, to step instead of a world.
            weights: folder with the weights of published metrics (LPIPS, FID, ...); pydoc worldenv.eval.learned lists
                the files. Without them those metrics are named as skipped.
            quantize: int8 steps the world with 8-bit linear layers; compare puts the two reports side by side.
        """
        if videos is not None or dynamics:
            if quantize != "none":
                raise ValueError("--quantize computes a world; leave it out with --videos and --dynamics")
            from .eval.external import score_dynamics, score_videos

            if videos is not None:
                score_videos(suite, videos, manifest, out, weights=weights)
            else:
                score_dynamics(suite, dynamics, out, num_worlds=worlds, first_seed=first_seed, weights=weights)
            return
        run_suite(
            suite, world, out, num_worlds=worlds, first_seed=first_seed, weights=weights, quantize=quantize
        )  # fmt: skip

    tyro.cli(run, args=arguments[1:] if suite else arguments, prog=f"worldenv eval {suite or 'SUITE'}")


def ablations(arguments: list[str]) -> None:
    """Compare worlds that were trained differently."""

    def run(
        *, out: Path, table: Path | None = None, arms: tuple[str, ...] = (), seeds: tuple[int, ...] = (),
        processes: int | None = None, runs: Path | None = None, worlds: int | None = None,
        first_seed: int | None = None,
    ) -> None:  # fmt: skip
        """Train the arms of a table and judge what it claims, or compare worlds that are there (--arms).

        Tables (configs/ablations, one command each: worldenv eval ablations --table FILE --out DIR): table3 discrete,
        continuous and dual actions; table4 reframed positions against absolute ones; table6 before and after
        distillation; table7 sizes of memory; figure8 misaligned memory and self-rolled history in distillation;
        memory with retrieval, recent frames only, none. The same command goes on after an interruption.

        Args:
            out: folder for the report.
            table: file of claims, stages and arms; what it lacks is recorded and trained first.
            arms: NAME=DIR of each; NAME@1=DIR NAME@2=DIR for training seeds. The claim is that the first is better
                than each other.
            seeds: training seeds of a table, by default all in its file. Five are needed to call a claim reproduced.
            processes: runs that are trained at a time; by default one per CPU core, or per four on a GPU machine.
            runs: folder for training runs, which tables share; by default runs, beside out.
            worlds: number of held-out mazes; by default what the table says, or all that are published.
            first_seed: draw other cases, from this map seed on.
        """
        from .eval.ablations import run_ablations, run_table

        if table is not None and arms:
            raise ValueError("--table trains its own arms; pass --table or --arms")
        if table is None and (seeds or processes or runs):
            raise ValueError("--seeds, --processes and --runs train the arms of a --table")
        if table is None:
            run_ablations(arms, out, num_worlds=worlds, first_seed=first_seed)
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
        from .eval.report import compare

        compare(first, second)

    tyro.cli(run, args=arguments, prog="worldenv eval compare")


def bench_data(arguments: list[str]) -> None:
    """hand out a suite's start images, actions, poses and ground truth"""

    def run(
        suite: tyro.conf.Positional[Literal["revisit", "short_term", "drift", "memory"]], /, *, out: Path,
        worlds: int | None = None, first_seed: int | None = None,
    ) -> None:  # fmt: skip
        """Write a suite's cases to a folder, for people with their own model (see --videos of eval).

        Args:
            suite: whose cases.
            out: folder to write to.
            worlds: number of held-out mazes; by default all that are published.
            first_seed: draw other cases, from this map seed on.
        """
        from .eval.external import write_cases

        write_cases(suite, out, num_worlds=worlds, first_seed=first_seed)

    tyro.cli(run, args=arguments, prog="worldenv bench-data")


def bench(arguments: list[str]) -> None:
    """measure the engine's speed, the memory at a great age, a rolling window, or what WorldPlay-5B takes here"""

    def run(
        what: tyro.conf.Positional[Literal["engine", "backends", "memory", "rolling", "worldplay"]] = "engine", /, *,
        out: Path,
        world: str | None = None, envs: tuple[int, ...] = (1, 4, 16), steps: int = 20, chunks: int = 2000,
        teacher_steps: int = 16, layers: int = 30, size: tuple[int, int] = (704, 1280),
    ) -> None:  # fmt: skip
        """Measure and write a JSON file: throughput, memory at a great age, a rolling window, or WorldPlay-5B.

        Args:
            what: engine (a world with 1, 4 and 16 envs), backends (float32, bfloat16 and int8 side by side), memory (an
                old engine against a young one, and retrieval alone), rolling (both lookahead policies of a rolling
                window against the many-step teacher), or worldplay (the released sizes on random weights, by part).
            out: JSON file to write.
            world: packaged name, directory or hub id; by default maze, for memory the tiny preset (random weights).
            envs: engine, backends: batch sizes, interleaved; rolling: the first of them.
            steps: steps counted for each.
            chunks: memory: age of the old engine.
            teacher_steps: rolling: steps of the teacher.
            layers: worldplay: transformer layers (the release has 30).
            size: worldplay: height and width.
        """
        from .eval.bench import bench_engine
        from .eval.bench_backends import bench_backends
        from .eval.bench_memory import bench_memory
        from .eval.bench_rolling import bench_rolling
        from .eval.bench_worldplay import bench_worldplay

        if what == "engine":
            bench_engine(world or "maze", out, sizes=envs, num_steps=steps)
        elif what == "backends":
            bench_backends(world or "maze", out, sizes=envs, num_steps=steps)
        elif what == "memory":
            bench_memory(out, name=world or "tiny", num_chunks=chunks, num_steps=steps)
        elif what == "rolling":
            bench_rolling(
                out, name=world or "maze", num_envs=envs[0], num_steps=steps, teacher_steps=teacher_steps
            )  # fmt: skip
        else:
            bench_worldplay(out, num_layers=layers, size=size, num_steps=steps)

    tyro.cli(run, args=arguments, prog="worldenv bench")


def rollout(arguments: list[str]) -> None:
    """generate a video along a pose string"""

    def run(
        *, pose: str, out: Path, world: str = "maze", start: int = 0, image: Path | None = None, prompt: str = "",
        seed: int = 0, memory: str = "auto", explain: bool = False,
    ) -> None:  # fmt: skip
        """Generate a video along a pose string such as "w-8, right-8, left-8, s-8", or along a camera path.

        Args:
            pose: comma-separated segments keys-N: keys w s a d left right up down, joined by + when held together,
                for N latents of 4 frames; or a file: WorldPlay's JSON, nerfstudio's transforms.json (.json) or
                RealEstate10K's lines (.txt), one pose per latent.
            out: video file to write (.mp4).
            world: packaged name, directory or hub id.
            start: start view of the world.
            image: a picture to start from instead.
            prompt: text, or the path of its embedding (.safetensors), in worlds that take one.
            seed: seed of the noise.
            memory: memory policy; auto is the world's own.
            explain: also draw from above what each chunk retrieved, beside the video (.memory.png).
        """
        from .eval.rollout import run_rollout

        run_rollout(
            world, pose, out, start=start, seed=seed, memory=memory, image=image, prompt=prompt, explain=explain
        )

    tyro.cli(run, args=arguments, prog="worldenv rollout")


def export(arguments: list[str]) -> None:
    """write a world's weights in another precision, to share or package it"""

    def run(*, world: str, weights: Path, dtype: Literal["bfloat16", "float32"] = "bfloat16", name: str = "") -> None:
        """Write a world to another directory with its weights in another precision.

        Args:
            world: packaged name, directory or hub id.
            weights: directory to write.
            dtype: precision of the weights; bfloat16 halves the size and is what CPUs and GPUs here compute in.
            name: a new name for it; empty keeps the old one.
        """
        from .engine.world import convert_world

        convert_world(world, weights, dtype=dtype, name_as=name)

    tyro.cli(run, args=arguments, prog="worldenv export")


def info(arguments: list[str]) -> None:
    """show what a world is: picture, sizes, memory, provenance"""

    def run(world: tyro.conf.Positional[str] = "maze", /) -> None:
        """Show what a world is: picture, sizes, memory, and every training stage it went through.

        Args:
            world: packaged name, directory or hub id.
        """
        from .engine.info import describe_world
        from .engine.world import World

        print(describe_world(World.from_pretrained(world)))

    tyro.cli(run, args=arguments, prog="worldenv info")


def verify_reference(arguments: list[str]) -> None:
    """compare ours with golden tensors of the released WorldPlay, rung by rung"""

    def run(folder: tyro.conf.Positional[Path], /, *, tolerance: float = 1e-4, approximate: bool = False) -> None:
        """Run the released transformer, memory and VAE on golden tensors; exit 1 past the tolerance.

        Args:
            folder: config.json, transformer, vae, forward and rollout (.safetensors).
            tolerance: largest difference that passes, relative to the largest value.
            approximate: also say how far the rollout is off with worldscape memory, which encodes nothing anew.
        """
        from .eval.reference import approximation, print_rungs
        from .eval.reference import verify_reference as verify

        rungs = verify(folder, tolerance=tolerance)
        print_rungs(rungs)
        if approximate:
            off = "  ".join(f"{value:.1%}" for value in approximation(folder))
            print(f"worldscape memory encodes nothing anew; its latents are off by (RMS, chunk by chunk): {off}")
        if not all(rung.passed for rung in rungs):
            sys.exit(1)

    tyro.cli(run, args=arguments, prog="worldenv verify-reference")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": demo,
    "record": record,
    "train": train,
    "eval": evaluate,
    "rollout": rollout,
    "bench": bench,
    "bench-data": bench_data,
    "export": export,
    "info": info,
    "verify-reference": verify_reference,
}


def split_config(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Take ``--config F`` out of the arguments: the file holds the defaults that flags override."""
    rest: list[str] = []
    path = None
    values = iter(arguments)
    for argument in values:
        if argument == "--config":
            path = Path(next(values, ""))
        elif argument.startswith("--config="):
            path = Path(argument.removeprefix("--config="))
        else:
            rest.append(argument)
    return path, rest


def usage() -> str:
    """List the commands."""
    lines = [f"  {name:17s} {(function.__doc__ or '').strip()}" for name, function in COMMANDS.items()]
    return "usage: worldenv COMMAND ...\n\n" + "\n".join(lines) + "\n\nworldenv COMMAND --help explains each."


def main() -> None:
    """Run a command; an expected failure is one line on stderr and exit status 1."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name == "--version":
        from . import __version__

        print(__version__)
        return
    if name not in COMMANDS:
        sys.exit(f"worldenv: unknown command {name!r}\n\n{usage()}")
    try:
        COMMANDS[name](arguments)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"worldenv {name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
