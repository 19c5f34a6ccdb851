"""Commands that make worlds: record, train, export."""

# No postponed annotations here: tyro reads the types of the nested functions below.
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .config import Flat, split_config


def record(arguments: list[str]) -> None:
    """record a simulator or any registered Gymnasium environment to shards"""
    from ..base.config import load_toml
    from ..base.log import Stopwatch, console
    from ..data.record import RecordConfig
    from ..data.record import record as record_clips

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
    from ..base.config import load_toml
    from ..eval.suites.composite import composite
    from ..training.loop.parallel import is_launched, launch, leave
    from ..training.stages.config import TrainConfig
    from ..training.stages.registry import STAGES
    from ..training.stages.registry import train as train_stage

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

        With --optim.patience the world is scored on held-out mazes at every preview, and the best is written.

        Args:
            out: folder for checkpoints, logs, samples and the resulting world.
            resume: go on from the checkpoint in the folder.
            processes: share each batch among this many processes; on a CPU, one per core is fastest.
            config: what to train, on what.
        """
        if processes > 1 and not is_launched():
            launch(["train", *arguments], processes)
        else:
            judge = partial(composite, parent=config.init) if config.optim.patience else None
            train_stage(stage, config, out, resume=resume, evaluate=judge)
            leave()

    tyro.cli(run, args=rest, prog=f"worldenv train {stage or 'STAGE'}")


def train_pose(arguments: list[str]) -> None:
    """Train what measures camera motion in pictures, for ``worldenv eval``."""
    from ..base.config import load_toml
    from ..training.stages.motion import PoseTrainConfig
    from ..training.stages.motion import train_pose as train_network

    path, rest = split_config(arguments)
    default = load_toml(PoseTrainConfig, path) if path else PoseTrainConfig()

    def run(*, out: Path, resume: bool = False, config: Annotated[PoseTrainConfig, Flat] = default) -> None:
        """Train the network that measures camera motion and write motion.safetensors. --config F.toml gives defaults.

        Args:
            out: folder for checkpoints, logs, samples and the network.
            resume: go on from the checkpoint in the folder.
            config: on what, with the artefacts of which world's VAE.
        """
        train_network(config, out, resume=resume)

    tyro.cli(run, args=rest, prog="worldenv train pose")


def export(arguments: list[str]) -> None:
    """write a world's weights in another precision, to share or package it"""

    def run(*, world: str, weights: Path, dtype: Literal["bfloat16", "float32"] = "bfloat16", name: str = "") -> None:
        """Write a world to another directory with its weights in another precision.

        Args:
            world: packaged name, directory or hub:org/name.
            weights: directory to write.
            dtype: precision of the weights; bfloat16 halves the size and is what CPUs and GPUs here compute in.
            name: a new name for it; empty keeps the old one.
        """
        from ..world.world import convert_world

        convert_world(world, weights, dtype=dtype, name_as=name)

    tyro.cli(run, args=arguments, prog="worldenv export")
