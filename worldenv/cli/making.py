"""Commands that make worlds: record, train, export, push."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from .settings import File, settings

if TYPE_CHECKING:
    from ..data.record import RecordConfig
    from ..making.config import MakeConfig
    from ..training.stages.config import TrainConfig
    from ..training.stages.motion import PoseTrainConfig
else:
    RecordConfig = settings("data.record:RecordConfig")
    MakeConfig = settings("making.config:MakeConfig")
    TrainConfig = settings("training.stages.config:TrainConfig")
    PoseTrainConfig = settings("training.stages.motion:PoseTrainConfig")

STAGES = {
    "vae": "Pixels to latents and back.",
    "decoder": "The VAE's decoder alone, with a discriminator.",
    "bidirectional": "The transformer, on windows whose chunks all see each other.",
    "causal": "The transformer, on windows whose chunks see the past.",
    "memory": "Chunks that need memory, with their reconstituted context.",
    "consistency": "The same, and its features have to know depth and other views.",
    "teacher": "A bidirectional model of several chunks with all their memory.",
    "consistency_distill": "A few steps instead of many, on recorded contexts.",
    "context_forcing": "A few steps instead of many, on the student's own chunks.",
    "rolling": "A rolling window, on the student's own chunks.",
    "heads": "What is read off frames: depth for rendering, reward and end, or a hand's object (--head).",
    "display": "The display decoder, large pictures for people.",
}
"""What each stage trains; ``training.stages.registry`` has them."""


def record(*, out: Path, workers: int = 2, ray: str = "", config: File = None, what: RecordConfig) -> None:
    """Record a simulator, environment or own data to shards.

    Args:
        out: folder for the HDF5 shards; the same call again goes on where it stopped.
        workers: processes.
        ray: HOST:PORT of a Ray cluster to record on instead, whose machines all see the folder, or local.
        what: what to record.
    """
    from ..base.log import Stopwatch, console
    from ..data.record import record as record_clips

    watch = Stopwatch()
    frames = record_clips(what, out, workers=workers, ray=ray)
    if frames:
        console.print(f"{frames} frames in {watch.seconds():.1f} s, {frames / watch.seconds():.0f} frames/s")


def make(env: Positional[str], /, *, out: Path, config: File = None, what: MakeConfig) -> None:
    """Make a world of your own environment or data.

    Args:
        env: id of a registered Gymnasium environment; module:Id-v0 imports the module that registers it. Or a recording
            from elsewhere: lerobot:DIR, minari:DIR, videos:DIR.
        out: folder for everything; the same command again goes on where it stopped. The world is in out/world.
        what: how much, how large, how long.
    """
    from ..making.make import make as make_world

    make_world(env, what, out)


def train(
    stage: str,
    /,
    *,
    out: Path,
    resume: bool = False,
    processes: int = 1,
    config: File = None,
    what: TrainConfig,
) -> None:
    """Train one stage and write a world.

    Args:
        stage: which one.
        out: folder for checkpoints, logs, samples and the resulting world; with --optim.patience that is the best of
            those that were scored on held-out mazes at every preview.
        resume: go on from the checkpoint in the folder.
        processes: share each batch among this many processes; on a CPU, one per core is fastest.
        what: what to train, on what.
    """
    from ..eval.suites.composite import composite
    from ..training.loop.parallel import is_launched, launch, leave
    from ..training.stages.registry import train as train_stage

    if processes > 1 and not is_launched():
        launch(sys.argv[1:], processes)
    else:
        judge = partial(composite, parent=what.init) if what.optim.patience else None
        train_stage(stage, what, out, resume=resume, evaluate=judge)
        leave()


def train_pose(*, out: Path, resume: bool = False, config: File = None, what: PoseTrainConfig) -> None:
    """What measures camera motion in pictures, for worldenv eval.

    Args:
        out: folder for checkpoints, logs, samples and motion.safetensors.
        resume: go on from the checkpoint in the folder.
        what: on what, with the artefacts of which world's VAE.
    """
    from ..training.stages.motion import train_pose as train_network

    train_network(what, out, resume=resume)


def export(
    *,
    world: str = "",
    weights: Path | None = None,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    name: str = "",
    clips: int = 0,
    points: Path | None = None,
    splats: Path | None = None,
    view: Path | None = None,
    lerobot: Path | None = None,
    recording: Path | None = None,
    episodes: int = 16,
    chunks: int = 32,
    task: str = "",
    pose: str = "",
    start: int = 0,
    seed: int = 0,
) -> None:
    """Write a world anew, a walk as points, or episodes.

    Args:
        world: packaged name, directory or hub:org/name.
        weights: directory to write, to share or to package.
        dtype: precision of the weights; bfloat16 halves the size and is what CPUs and GPUs here compute in.
        name: a new name for it; empty keeps the old one.
        clips: how many clips on held-out mazes to record for it (the sims extra); 0 keeps those it has.
        points: point cloud to write (.ply): x, y, z in metres, red, green, blue. Axes are a camera's: y points down.
        splats: the same points as Gaussians (.ply), in the layout that viewers of 3D Gaussian splatting open.
        view: picture to write, of the points from above, where no camera of the walk was (.png or .jpg).
        lerobot: folder for a LeRobot data set of format v3 (the data extra): what the world generates under random
            actions, or a recording.
        recording: folder of shards to write so; no world is needed then.
        episodes: generated episodes.
        chunks: chunks of each, fewer where one ends.
        task: what the data set says that is done in it.
        pose: the walk, as for rollout; by default one of eight seconds that looks around twice.
        start: start view of the world that the walk begins from.
        seed: seed of the noise.
    """
    from ..play.cloud import WALK, export_cloud
    from ..world.world import convert_world

    if lerobot is not None:
        from ..play.generated import export_lerobot

        if bool(world) == (recording is not None):
            raise ValueError("--lerobot writes what a world generates or a recording; pass --world or --recording")
        export_lerobot(
            lerobot, world=world, recording=recording, episodes=episodes, chunks=chunks, seed=seed, task=task
        )
        return
    if not world:
        raise ValueError("which world? pass --world")
    shapes = {"points": points, "splats": splats, "view": view}
    if weights is None and not any(shapes.values()):
        raise ValueError(
            "nothing to write; pass --weights DIR, --points F.ply, --splats F.ply, --view F.png or --lerobot DIR"
        )
    if weights is not None:
        convert_world(world, weights, dtype=dtype, name_as=name, num_clips=clips)
    if any(shapes.values()):
        export_cloud(world, **shapes, pose=pose or WALK, start=start, seed=seed)


def push(
    folder: Positional[Path], name: Positional[str], /, *, reports: tuple[Path, ...] = (), private: bool = False
) -> None:
    """Put a world on the Hugging Face hub.

    Args:
        folder: the world; it is safetensors and TOML, and nothing else of the folder goes along.
        name: org/name; anybody then steps it as world="hub:org/name".
        reports: report.json of suites that scored this very world, for its card.
        private: for you alone.
    """
    from ..world.hub import push_world

    print(push_world(folder, name, reports=reports, private=private))
