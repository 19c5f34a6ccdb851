"""The command that measures speed: bench."""

# No postponed annotations here: tyro reads the types of the nested functions below.
from pathlib import Path
from typing import Literal

import tyro


def bench(arguments: list[str]) -> None:
    """measure the engine, memory at a great age, rendered memory, a rolling window, a training step, WorldPlay-5B"""

    def run(
        what: tyro.conf.Positional[
            Literal["engine", "backends", "memory", "rendering", "rolling", "training", "worldplay"]
        ] = "engine",
        /, *, out: Path,
        world: str | None = None, envs: tuple[int, ...] = (1, 4, 16), steps: int = 20, chunks: int = 2000,
        decode: bool = True, capture: bool = False, teacher_steps: tuple[int, ...] = (16,), layers: int = 30,
        size: tuple[int, int] = (704, 1280),
    ) -> None:  # fmt: skip
        """Measure and write a JSON file: throughput, a great age, a rolling window, training, or WorldPlay-5B.

        Args:
            what: engine (a world with 1, 4 and 16 envs), backends (float32 and bfloat16 side by side), memory (an
                old engine against a young one, and retrieval alone), rendering (memory rendered into the coming view
                against not, in paired steps), rolling (both lookahead policies of a rolling
                window against chunk after chunk and a joint teacher), training (a step under either backend, paired,
                on random weights and data), or worldplay (the released sizes on random weights, by part).
            out: JSON file to write.
            world: packaged name, directory or hub:org/name; by default maze, for memory the tiny preset (random
                weights); training: a preset.
            envs: engine, backends, rendering: batch sizes; rolling: the first of them; training: samples per step.
            steps: steps counted for each.
            decode: engine: make frames of the latents, as environments with pictures do.
            capture: engine: launch chunks as CUDA graphs; backends tries both by itself.
            chunks: memory: age of the old engine.
            teacher_steps: rolling: numbers of steps of the teacher, each of which is timed.
            layers: worldplay: transformer layers (the release has 30).
            size: worldplay: height and width.
        """
        from ..bench.backends import bench_backends
        from ..bench.engine import bench_engine
        from ..bench.memory import bench_memory
        from ..bench.rendering import bench_rendering
        from ..bench.rolling import bench_rolling
        from ..bench.training import bench_training
        from ..bench.worldplay import bench_worldplay

        if what == "engine":
            bench_engine(world or "maze", out, sizes=envs, num_steps=steps, decode=decode, capture=capture)
        elif what == "backends":
            bench_backends(world or "maze", out, sizes=envs, num_steps=steps)
        elif what == "memory":
            bench_memory(out, name=world or "tiny", num_chunks=chunks, num_steps=steps)
        elif what == "rendering":
            bench_rendering(world or "maze", out, sizes=envs, num_steps=steps)
        elif what == "rolling":
            bench_rolling(
                out, name=world or "maze", num_envs=envs[0], num_steps=steps, teacher_steps=teacher_steps
            )  # fmt: skip
        elif what == "training":
            bench_training(out, name=world or "maze", sizes=envs, num_steps=steps)
        else:
            bench_worldplay(out, num_layers=layers, size=size, num_steps=steps)

    tyro.cli(run, args=arguments, prog="worldenv bench")
