"""Commands that step and show worlds: demo, rollout, info."""

from __future__ import annotations

from pathlib import Path

import tyro


def demo(
    *,
    out: Path,
    world: str = "maze",
    worlds: int = 8,
    first_seed: int | None = None,
    chunks: int = 12,
    clip: int | None = None,
) -> None:
    """Step a world out and back, with memory and without.

    And walk back to what a recorded clip began in front of.

    Args:
        out: folder for demo.mp4, contact.png (the way out above the mirrored way back), memory_map.png and report.json.
            From top to bottom: the simulator; continued, which is given the way out as it was and makes the way back;
            the world from a start view alone, with memory and without. tour.mp4 and tour.png show the walk back, what
            is known of the floor, and what is remembered as points (tour.ply).
        world: packaged name, directory or hub:org/name.
        worlds: number of held-out mazes; their true frames, which everything is compared with, need the sims extra.
        first_seed: take other mazes, from this map seed on; held-out ones have seeds from 900,000 on.
        chunks: chunks of a path, half of them on the way out.
        clip: which of the world's clips is walked back, if it has any; by default the tenth, or the last.
    """
    from ..base.device import default_dtype, resolve_device
    from ..base.log import console
    from ..eval.suites.evaluate import run_suite
    from ..play.tour import save_tour, walk_back
    from ..world.world import shared_world

    if worlds < 1 or chunks < 2:
        raise ValueError(f"worlds={worlds}, chunks={chunks}; pass one world or more, and two chunks: one out, one back")
    device = resolve_device("auto")
    shown = shared_world(world, device=device, dtype=default_dtype(device))
    if shown.clips is not None and "depth" in shown.heads:
        chosen = min(10, len(shown.clips) - 1) if clip is None else clip
        console.print(f"{save_tour(walk_back(shown, chosen), out)}: wrote {out / 'tour.mp4'}, tour.png")
    run_suite("demo", world, out, num_worlds=worlds, first_seed=first_seed, num_chunks=chunks)


def rollout(
    *,
    pose: str,
    out: Path,
    world: str = "maze",
    start: int = 0,
    image: Path | None = None,
    prompt: str = "",
    seed: int = 0,
    memory: str = "auto",
    explain: bool = False,
    display: bool = True,
) -> None:
    """Generate a video along keys or a camera path.

    Args:
        pose: comma-separated segments keys-N such as "w-8, right-8, left-8, s-8": keys w s a d left right up down,
            joined by + when held together, for N latents of 4 frames; or a file: WorldPlay's JSON, nerfstudio's
            transforms.json (.json) or RealEstate10K's lines (.txt), one pose per latent.
        out: video file to write (.mp4).
        world: packaged name, directory or hub:org/name.
        start: start view of the world.
        image: a picture to start from instead.
        prompt: text, or the path of its embedding (.safetensors), in worlds that take one.
        seed: seed of the noise.
        memory: memory policy; auto is the world's own.
        explain: also draw from above what each chunk retrieved, beside the video (.memory.png).
        display: show it by the world's display decoder, if it has one, four times as large; else its frames' pixels
            enlarged.
    """
    from ..play.walk import run_rollout

    run_rollout(
        world,
        pose,
        out,
        start=start,
        seed=seed,
        memory=memory,
        image=image,
        prompt=prompt,
        explain=explain,
        display=display,
    )


def info(world: tyro.conf.Positional[str] = "maze", /) -> None:
    """Show what a world is and how it was trained.

    Args:
        world: packaged name, directory or hub:org/name. Or a saved state or checkpoint (.safetensors), a shard (.h5) or
            a folder of shards, which are read to their end.
    """
    from ..base.checkpoint import describe_tensors
    from ..base.said import check_path
    from ..data.schema import describe_shards
    from ..world.info import describe_world
    from ..world.world import World

    path = check_path(world)
    if path.suffix == ".safetensors":
        print(describe_tensors(path))
    elif path.suffix == ".h5" or (path.is_dir() and any(path.glob("shard-*.h5"))):
        print(describe_shards(path))
    else:
        print(describe_world(World.from_pretrained(world)))
