"""Encode a recording once: latents, what led to them and the need of memory, shard by shard, resumable."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..base.checkpoint import load_tensors, save_tensors
from ..base.device import default_dtype, resolve_device
from ..base.log import track
from ..base.rng import derive_seed
from ..data.dataset import TRACK, LatentDataset, clip_track
from ..data.schema import Clip, read_shard, shard_config, shard_paths
from ..data.sources.imports import is_import
from ..data.visibility import memory_need, visibility
from ..dynamics.signals import POSE_VIDEO, Track
from ..dynamics.spec import FRAMES_PER_LATENT
from ..engine.render import Renderer
from ..models.codec import to_pixels
from ..world.pose_video import PoseVideo
from ..world.world import World
from .loop.parallel import process_state
from .renders import ClipRenderer, RendersConfig, decoded_views
from .weights import PLAIN, WeightsConfig, carried, cell_weights


def recording_name(folder: Path) -> str:
    """Describe recordings in one line, for provenance: env, maze, clips, map seeds."""
    return "; ".join(_describe(path) for path in _firsts(shard_paths(folder)))


def _describe(shard: Path) -> str:
    config = shard_config(shard)
    first, count, maze = config.get("first_seed", 0), config.get("clips", 0), config.get("spec", {}).get("maze", "")
    source = str(config.get("env", shard.parent.name))
    if is_import(source):  # whose path means nothing elsewhere
        source = f"{source.partition(':')[0]}:{Path(source.partition(':')[2]).name}"
    env = " ".join(name for name in (source, maze) if name)
    return f"{env}, {count} clips, map seeds {first}..{first + count - 1}"


def recording_digest(folder: Path) -> str:
    """Name recordings by the first shard of each and the number of all, which a copy shares."""
    paths = shard_paths(folder)
    digest = hashlib.blake2b(digest_size=8)
    for path in _firsts(paths):
        digest.update(path.read_bytes())
    return f"{digest.hexdigest()}/{len(paths)}"


def _firsts(paths: list[Path]) -> list[Path]:
    """Return the first shard of every recording."""
    return list({path.parent: path for path in reversed(paths)}.values())[::-1]


@torch.no_grad()
def encode_recording(
    world: World,
    data: Path,
    cache: Path,
    *,
    max_clips: int | None = None,
    renders: RendersConfig | None = None,
    weights: WeightsConfig = PLAIN,
) -> LatentDataset:
    """Encode every shard that is not encoded yet by this VAE, each process its share of them, and load the result.

    The cache folder is keyed by the encoder, the sizes of chunk and window, and the recording's first shard, so that a
    change of any of them encodes anew, and a copy of the recording does not. For a transformer that takes renders in,
    what the latents show is kept too; with ``renders`` so are renders of every chunk, which alone are made anew where
    they are to be degraded, or chosen, otherwise. Beside them are kept the pose video of a robot, where the transformer
    takes one in, and how much errors count, where that differs.
    """
    paths = shard_paths(data)
    folder = cache / f"{data.name}-{_latents_key(world, paths, weights)}"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {
        path: "-".join(path.relative_to(data).with_suffix("").parts) for path in shard_paths(data, max_clips=max_clips)
    }
    files = [folder / f"latents-{name}.safetensors" for name in chosen.values()]
    _make_missing(
        world, dict(zip(files, chosen, strict=True)), f"encoding {data.name}", partial(_encode_shard, world, weights)
    )
    shards = [load_tensors(file)[0] for file in files]
    if renders is not None and world.config.dit.render_input:
        key = _renders_key(world, renders)
        made = {folder / f"renders-{key}-{name}.safetensors": file for name, file in zip(chosen.values(), files)}
        _make_missing(world, made, f"rendering {data.name}", partial(_render_shard, world, renders))
        shards = [shard | load_tensors(file)[0] for shard, file in zip(shards, made, strict=True)]
    return LatentDataset.join(shards).head(max_clips)


def _make_missing(
    world: World, wanted: Mapping[Path, Path], description: str, make: Callable[[Path], dict[str, torch.Tensor]]
) -> None:
    """Make the files that are not there, each from another one; every process its share, on the device."""
    parts = [*world.parts().values()]
    before = [next(part.parameters()).device for part in parts]
    for part in parts:
        part.to(resolve_device("auto"))
    processes = process_state()
    share = list(wanted.items())[processes.process_index :: processes.num_processes]
    for target, source in track(share, description, total=len(share)):
        if not target.exists():
            save_tensors(target, make(source))
    processes.wait_for_everyone()
    for part, device in zip(parts, before, strict=True):
        part.to(device)


def _latents_key(world: World, paths: list[Path], weights: WeightsConfig) -> str:
    """Hash what encoded shards depend on: encoder, normalisation, chunk and window sizes, the recording; where what
    they show is kept also decoder and depth head.
    """
    digest = hashlib.blake2b(digest_size=8)
    shown, state = world.config.dit.render_input, world.vae.state_dict()
    _add(digest, {name: state[name] for name in state if shown or not name.startswith("decoder.")})
    digest.update(f"{world.spec.chunk_latents}/{world.config.memory.temporal_latents}/{[*world.spec.takes]}".encode())
    if world.config.dit.pose_video or weights.active:
        digest.update(f"{world.config.dit.pose_video}/{weights}{'/carried' if weights.objects else ''}".encode())
    if shown:
        _add(digest, world.require_depth_head().state_dict())
    for path in _firsts(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _renders_key(world: World, renders: RendersConfig) -> str:
    """Hash what renders depend on beside what latents show: how memory is rendered, and who made some of it."""
    digest = hashlib.blake2b(f"{world.config.memory.rendering}{renders}".encode(), digest_size=8)
    if renders.generated:
        _add(digest, world.dit.state_dict())
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, state: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())


def _encode_shard(world: World, weights: WeightsConfig, path: Path) -> dict[str, torch.Tensor]:
    """Encode a shard of a recording."""
    vae = world.vae.eval()
    device = vae.latent_mean.device
    rows: dict[str, list[torch.Tensor]] = defaultdict(list)
    bf16 = default_dtype(device) == torch.bfloat16
    renderer = Renderer(world, world.spec, world.config.memory) if world.config.dit.render_input else None
    pose_video = PoseVideo(world.spec, vae) if world.config.dit.pose_video else None
    for clip, whole in _episodes(world, path, weights):
        if clip.frames.shape[1:3] != (world.spec.height, world.spec.width):
            raise ValueError(
                f"{path}: frames {clip.frames.shape[1:3]}, the world has {world.spec.height}, {world.spec.width}"
            )
        track = clip_track(clip, world.spec)
        if pose_video is not None:
            joints = track["joints"].to(device)
            drawn = pose_video.latents(joints[:1], joints[None])[0].cpu().half()
            track = Track({**track, POSE_VIDEO: drawn})
        for name, signal in track.items():
            rows[TRACK + name].append(_padded(signal, whole))
        if weights.active:
            cell = world.vae.spatial_factor
            rows["weight"].append(_padded(cell_weights(clip, weights, cell=cell).half(), whole))
        frames = torch.from_numpy(clip.frames)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            latents = vae.encode(to_pixels(frames).to(device)[None])[0]
            if renderer is not None:
                shown, depth = decoded_views(world, renderer, frames[0], latents.float())
                entries = 1 + (whole - 1) // world.spec.chunk_latents
                rows["frames"].append(_padded(shown, entries))
                rows["depth"].append(_padded(depth, entries))
        rows["latents"].append(_padded(latents.cpu().half(), whole))
        rows["need"].append(_padded(_need(clip, world, weights), whole))
        rows["length"].append(torch.tensor(clip.num_latents))
    if not rows:
        raise ValueError(f"{path}: no episode is as long as a chunk of {world.spec.chunk_latents} latents")
    return {key: torch.stack(values) for key, values in rows.items()}


def _episodes(world: World, path: Path, weights: WeightsConfig) -> Iterator[tuple[Clip, int]]:
    """Yield the episodes of a shard that are a chunk long or longer, and how many latents their clips have."""
    more = ("segmentation",) if weights.segments else ()
    for clip in read_shard(path, only=("frames", "depth", "c2w", "K", "is_first", *more, *world.spec.takes)):
        for episode in clip.episodes():
            if episode.num_latents > world.spec.chunk_latents:
                yield episode, clip.num_latents


def _padded(
    part: torch.Tensor,  # (F, ...)
    count: int,
) -> torch.Tensor:
    """Repeat the last of an episode's latents, (count, ...): what has ended stands still."""
    return torch.cat([part, part[-1:].expand(count - len(part), *part.shape[1:])])


def _render_shard(world: World, renders: RendersConfig, path: Path) -> dict[str, torch.Tensor]:
    """Render the clips of an encoded shard."""
    renderer, data = ClipRenderer(world, renders), LatentDataset.join([load_tensors(path)[0]])
    assert data.frames is not None
    assert data.depth is not None
    device = world.vae.latent_mean.device
    made = []
    with torch.autocast(device.type, torch.bfloat16, enabled=default_dtype(device) == torch.bfloat16):
        for i, latents in enumerate(data.latents):
            generator = torch.Generator().manual_seed(derive_seed(0, path.stem, i))
            views = data.frames[i], data.depth[i]
            made.append(renderer(latents.float(), data.track.at(i), views, generator))
    return {"renders": torch.stack(made)}


def _need(clip: Clip, world: World, weights: WeightsConfig) -> torch.Tensor:
    """How much each latent needs memory: by true visibility where the recording says how the camera moved and how deep
    it saw; where the camera stands still, objects that are carried away do, if they count more.
    """
    if not {"depth", "c2w", "K"} <= clip.signals.keys():
        still = torch.zeros(clip.num_latents)
        return carried(clip, weights, chunk_latents=world.spec.chunk_latents) if weights.objects else still
    depth = torch.from_numpy(np.ascontiguousarray(clip.signals["depth"][::FRAMES_PER_LATENT])).float()
    seen = visibility(depth, *(torch.from_numpy(clip.signals[name]) for name in ("c2w", "K")))
    temporal = world.config.memory.temporal_latents
    return memory_need(seen, chunk_latents=world.spec.chunk_latents, temporal_latents=temporal)
