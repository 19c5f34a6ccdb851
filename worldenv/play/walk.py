"""``worldenv rollout``: a video along a pose string or a camera path from a file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..base.device import default_dtype, resolve_device
from ..base.documents import read_bytes
from ..base.log import Stopwatch, console, track
from ..base.media import check_video, read_picture, save_video
from ..dynamics.signals import Track
from ..dynamics.spec import WorldSpec
from ..engine.engine import Engine
from ..envs.opening import memory_config
from ..geometry.action import camera_to_c2w, keys_to_camera
from ..geometry.pose import relative
from ..geometry.pose_string import parse_pose_string
from ..geometry.trajectory_file import Trajectory, read_trajectory
from ..world.world import shared_world
from .explain import MemoryTrace
from .picture import fit_picture

MOST_BYTES = 2**28
"""Of the file of a picture."""


def run_rollout(
    name: str,
    pose: str,
    out: Path,
    *,
    start: int,
    seed: int,
    memory: str,
    image: Path | None = None,
    prompt: str = "",
    explain: bool = False,
    display: bool = True,
) -> None:
    """Generate along ``pose`` from a start view, a picture or a prompt, and write every frame.

    Frames are shown by the world's display decoder, if it has one and ``display`` is not off.

    With ``explain`` a picture beside the video shows from above what each chunk retrieved.

    Raises:
        ValueError: on a bad pose string or file, world, start, picture, prompt, policy or name of the video; nothing is
            written then.
    """
    check_video(out)
    path = None if not pose.endswith((".json", ".txt")) else read_trajectory(Path(pose))
    keys = parse_pose_string(pose) if path is None else None
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    world.spec.require_camera("a rollout along a path")
    settings, choose = memory_config(memory, world.config.memory)
    engine = Engine(world, 1, memory=settings, choose=choose)
    if prompt or world.prompts is not None:
        engine.set_prompt(prompt)
    if image is None:
        first = engine.reset(seeds=[seed], starts=[start])
    else:
        first = engine.resume(read_image(image, world.spec)[None, None], {}, seeds=[seed])
    frames = [first.frames[0]]
    c2w = _along(path, engine) if keys is None else camera_to_c2w(keys_to_camera(keys), engine.c2w[0], world.spec.steps)
    chunks = _whole_chunks(engine, c2w, keys)
    watch, count, trace = Stopwatch(), 0, MemoryTrace()
    for commands in track(chunks, "chunks", total=len(chunks)):
        chunk = engine.step(commands)
        if explain:
            trace.add(engine, chunk.signals["c2w"][0])
        new = chunk.frames.shape[1] if chunk.n_frames is None else int(chunk.n_frames[0])
        frames.append(chunk.frames[0, -new:])
        count += new
    console.print(f"{count} frames generated, {count / watch.seconds():.0f} frames/s")
    video = torch.cat(frames if image is not None or world.starts is not None else frames[1:])
    pictures = (world.enlarge(video) if display else video).numpy()
    scale = max(1, 256 // pictures.shape[2])
    save_video(out, pictures.repeat(scale, 1).repeat(scale, 2), fps=world.spec.fps)
    console.print(f"wrote {out}: {len(video)} frames")
    if explain:
        picture = out.with_suffix(".memory.png")
        trace.draw(picture, title=f"{world.config.name}, {engine.memory.policy}")
        console.print(f"wrote {picture}")


def _along(path: Trajectory | None, engine: Engine) -> Tensor:
    """Bring a path to the engine's start: its first pose is the start view's."""
    assert path is not None
    if (path.K - path.K[:1]).abs().max() > 1e-6:
        raise ValueError("the camera's focal length changes along the path; a rollout has one camera")
    engine.K = path.K[0]
    return engine.c2w[0] @ relative(path.c2w[:1], path.c2w[1:])


def _whole_chunks(engine: Engine, c2w: Tensor, keys: Tensor | None) -> list[Track]:
    """Cut a path (F, 4, 4) into chunks, standing still at its end to fill the last; the first may be one shorter."""
    spec, chunk = engine.spec, engine.spec.chunk_latents
    if keys is None:
        keys = spec.keys_along(torch.cat([engine.c2w, c2w]))
    lead = 1 if spec.start_in_chunk else 0
    short = -(len(keys) + lead) % chunk
    if short:
        console.print(f"{len(keys) + lead} latents are not whole chunks of {chunk}; standing still for {short} more")
    keys = torch.cat([keys, keys.new_zeros(short, 2)])
    c2w = torch.cat([c2w, c2w[-1:].expand(short, 4, 4)])
    if lead:  # the start view is the first latent of the first chunk, which then drops its last command
        split = chunk - lead
        keys = torch.cat([keys[:split], keys.new_zeros(lead, 2), keys[split:]])
        c2w = torch.cat([c2w[:split], c2w[split - 1 : split].expand(lead, 4, 4), c2w[split:]])
    return Track(keys=keys[None], c2w=c2w[None]).split(chunk)


def read_image(path: Path, spec: WorldSpec) -> Tensor:
    """Read a picture, scale it to cover the world's frame and crop its middle; (H, W, 3) uint8.

    Raises:
        ValueError: if the file is no picture.
    """
    data = read_bytes(path, most=MOST_BYTES)
    return fit_picture(torch.from_numpy(read_picture(data, what=str(path))), spec)
