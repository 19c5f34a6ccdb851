"""Commands that measure speed: bench engine, bench memory, ..."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from ..base.config import check_counts

Out = Annotated[Path, arg(help="JSON file to write.")]
Name = Annotated[str, arg(help="packaged name, directory or hub:org/name.")]
Sizes = Annotated[tuple[int, ...], arg(help="batch sizes.")]
Steps = Annotated[int, arg(help="steps counted for each.")]


def engine(
    *,
    out: Out,
    world: Name = "maze",
    envs: Sizes = (1, 4, 16),
    steps: Steps = 20,
    decode: bool = True,
    capture: bool = False,
) -> None:
    """Frames per second and latency of a world.

    Args:
        decode: make frames of the latents, as environments with pictures do.
        capture: launch chunks as CUDA graphs.
    """
    from ..bench.engine import bench_engine

    check_counts(envs=envs, steps=steps)
    bench_engine(world, out, sizes=envs, num_steps=steps, decode=decode, capture=capture)


def backends(*, out: Out, world: Name = "maze", envs: Sizes = (1, 4, 16), steps: Steps = 20) -> None:
    """Float32 and bfloat16, captured or not, in turn."""
    from ..bench.backends import bench_backends

    check_counts(envs=envs, steps=steps)
    bench_backends(world, out, sizes=envs, num_steps=steps)


def hand(*, out: Out, repeats: int = 5) -> None:
    """A frame of the hand's table, with and without the palm.

    Args:
        repeats: episodes, the fastest of which counts.
    """
    from ..bench.hand import bench_hand

    check_counts(repeats=repeats)
    bench_hand(out, repeats=repeats)


def memory(*, out: Out, world: Name = "tiny", chunks: int = 2000, steps: Steps = 20) -> None:
    """An old engine against a young one; retrieval alone.

    Args:
        world: the tiny preset (random weights), or a world.
        chunks: age of the old engine.
    """
    from ..bench.memory import bench_memory

    check_counts(chunks=chunks, steps=steps)
    bench_memory(out, name=world, num_chunks=chunks, num_steps=steps)


def play(*, out: Out, world: Name = "maze", presses: int = 40, seconds: float = 10.0) -> None:
    """From a key to its picture, in the page.

    Args:
        presses: keys that are counted, of each kind.
        seconds: how long a key is held for the frame rate.
    """
    from ..bench.play import bench_play

    check_counts(presses=presses)
    bench_play(world, out, presses=presses, seconds=seconds)


def rendering(*, out: Out, world: Name = "maze", envs: Sizes = (1, 4, 16), steps: Steps = 20) -> None:
    """Memory rendered into the coming view, and not, in turn."""
    from ..bench.rendering import bench_rendering

    check_counts(envs=envs, steps=steps)
    bench_rendering(world, out, sizes=envs, num_steps=steps)


def rolling(
    *, out: Out, world: Name = "maze", envs: int = 1, steps: Steps = 20, teacher_steps: tuple[int, ...] = (16,)
) -> None:
    """A rolling window against chunks and a joint teacher.

    Args:
        envs: envs stepped together.
        teacher_steps: numbers of steps of the teacher, each of which is timed.
    """
    from ..bench.rolling import bench_rolling

    check_counts(envs=envs, steps=steps, teacher_steps=teacher_steps)
    bench_rolling(out, name=world, num_envs=envs, num_steps=steps, teacher_steps=teacher_steps)


def scale(*, out: Out, world: Name = "maze", envs: int = 16, steps: Steps = 20) -> None:
    """A vector environment here, in one Ray actor and in two; what travels, what an env keeps.

    Args:
        envs: envs of each actor.
    """
    from ..bench.scale import bench_scale

    check_counts(envs=envs, steps=steps)
    bench_scale(out, name=world, num_envs=envs, num_steps=steps)


def collectors(*, out: Out, world: Name = "maze", envs: int = 16, steps: Steps = 20) -> None:
    """TorchRL's collectors on a vector environment, in one process and in two, beside RayVectorEnv.

    Args:
        envs: envs of each process.
    """
    from ..bench.collectors import bench_collectors

    check_counts(envs=envs, steps=steps)
    bench_collectors(out, name=world, num_envs=envs, num_steps=steps)


def training(*, out: Out, world: str = "maze", envs: tuple[int, ...] = (1, 4, 16), steps: Steps = 20) -> None:
    """A training step under either backend, in turn.

    Args:
        world: a preset; weights and data are random.
        envs: samples per step.
    """
    from ..bench.training import bench_training

    check_counts(envs=envs, steps=steps)
    bench_training(out, name=world, sizes=envs, num_steps=steps)


def worldplay(*, out: Out, layers: int = 30, size: tuple[int, int] = (704, 1280), steps: Steps = 20) -> None:
    """The released WorldPlay-5B on random weights, by part.

    Args:
        layers: transformer layers (the release has 30).
        size: height and width.
    """
    from ..bench.worldplay import bench_worldplay

    check_counts(layers=layers, steps=steps)
    bench_worldplay(out, num_layers=layers, size=size, num_steps=steps)


def serve(*, out: Out, world: Name = "maze", clients: int = 16, steps: Steps = 20, wait_ms: float = 8.0) -> None:
    """A session server: what its messages cost, and how many clients it carries.

    Args:
        clients: sessions that are stepped at the same time, beside one engine of as many rows.
        wait_ms: how long the server waits for others to share a model call with.
    """
    from ..bench.serve import bench_serve

    check_counts(clients=clients, steps=steps)
    bench_serve(world, out, num_clients=clients, num_steps=steps, wait_ms=wait_ms)


def soak(*, out: Out, world: Name = "maze", minutes: float = 5.0, clients: int = 20) -> None:
    """A session server and clients that stall, send garbage, halves, too much, or have no token.

    Args:
        minutes: how long.
        clients: how many of them, beside three that behave and should not notice.
    """
    from ..bench.soak import bench_soak

    bench_soak(world, out, minutes=minutes, clients=clients)


BENCHES = (
    engine,
    backends,
    collectors,
    hand,
    memory,
    play,
    rendering,
    rolling,
    scale,
    serve,
    soak,
    training,
    worldplay,
)
