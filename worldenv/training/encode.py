"""Encode a recording once: latents, poses, labels and the need of memory, shard by shard, resumable."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from ..base.checkpoint import load_tensors, save_tensors
from ..base.device import default_dtype, resolve_device
from ..base.log import track
from ..data.dataset import LatentDataset, clip_pose_arrays
from ..data.schema import Clip, read_shard, shard_config, shard_paths
from ..data.visibility import memory_need, visibility
from ..dynamics.spec import FRAMES_PER_LATENT
from ..models.vae import to_pixels
from ..world.world import World
from .loop.parallel import process_state
from .renders import ClipRenderer, RendersConfig


def recording_name(folder: Path) -> str:
    """Describe recordings in one line, for provenance: env, maze, clips, map seeds."""
    return "; ".join(_describe(path) for path in _firsts(shard_paths(folder)))


def _describe(shard: Path) -> str:
    config = shard_config(shard)
    first, count, maze = config.get("first_seed", 0), config.get("clips", 0), config.get("spec", {}).get("maze", "")
    env = " ".join(name for name in (config.get("env", shard.parent.name), maze) if name)
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
    world: World, data: Path, cache: Path, *, max_clips: int | None = None, renders: RendersConfig | None = None
) -> LatentDataset:
    """Encode every shard that is not encoded yet by this VAE, each process its share of them, and load the result.

    The cache folder is keyed by the encoder, the sizes of chunk and window, and the recording's first shard, so that a
    change of any of them encodes anew, and a copy of the recording does not. A transformer that takes renders in gets
    them, by ``renders``.
    """
    paths = shard_paths(data)
    if not world.config.dit.render_input:
        renders = None
    elif renders is None:
        renders = RendersConfig()
    folder = cache / f"{data.name}-{_fingerprint(world, paths, renders)}"
    folder.mkdir(parents=True, exist_ok=True)
    before = world.vae.latent_mean.device
    modules = [world.vae, *([world.require_depth_head()] if renders else [])]
    if renders and renders.generated:
        modules.append(world.dit)
    for module in modules:
        module.to(resolve_device("auto"))
    targets = {
        path: folder / f"latents-{'-'.join(path.relative_to(data).with_suffix('').parts)}.safetensors"
        for path in shard_paths(data, max_clips=max_clips)
    }
    processes = process_state()
    share = list(targets)[processes.process_index :: processes.num_processes]
    for path in track(share, f"encoding {data.name}", total=len(share)):
        if not targets[path].exists():
            save_tensors(targets[path], _encode_shard(world, path, renders))
    processes.wait_for_everyone()
    for module in modules:
        module.to(before)
    return LatentDataset.join([load_tensors(target)[0] for target in targets.values()]).head(max_clips)


def _fingerprint(world: World, paths: list[Path], renders: RendersConfig | None) -> str:
    """Hash what the encoded shards depend on: encoder, normalisation, chunk and window sizes, the recording; where they
    hold renders also depth head, decoder and how memory is rendered, and the transformer where it made some of that.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(world.vae.state_dict().items()):
        if name.startswith("decoder."):
            continue
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    digest.update(f"{world.spec.chunk_latents}/{world.config.memory.temporal_latents}".encode())
    if renders is not None:
        parts = [*world.require_depth_head().state_dict().items()]
        parts += world.dit.state_dict().items() if renders.generated else []
        for name, tensor in sorted(parts):
            digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
        decoder = world.vae.state_dict()["decoder.linear.conv.weight"]
        digest.update(f"{world.config.memory.rendering}{renders}".encode() + decoder.float().cpu().numpy().tobytes())
    for path in _firsts(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _encode_shard(world: World, path: Path, renders: RendersConfig | None) -> dict[str, torch.Tensor]:
    vae = world.vae.eval()
    device = vae.latent_mean.device
    rows: dict[str, list[torch.Tensor]] = {"latents": [], "c2w": [], "labels": [], "need": []}
    bf16 = default_dtype(device) == torch.bfloat16
    renderer = None if renders is None else ClipRenderer(world, renders)
    for clip in read_shard(path, arrays=("frames", "depth", "c2w", "K", "keys")):
        if clip.frames.shape[1:3] != (world.spec.height, world.spec.width):
            raise ValueError(
                f"{path}: frames {clip.frames.shape[1:3]}, the world has {world.spec.height}, {world.spec.width}"
            )
        c2w, labels = clip_pose_arrays(clip)
        pixels = to_pixels(torch.from_numpy(clip.frames)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            latents = vae.encode(pixels[None])[0]
            if renderer is not None:
                generator = torch.Generator().manual_seed(int(clip.attributes.get("map_seed", 0)))
                start, poses = torch.from_numpy(clip.frames[0]), torch.from_numpy(c2w)
                for name, part in renderer(start, latents.float(), poses, torch.from_numpy(labels), generator).items():
                    rows.setdefault(name, []).append(part)
        rows["latents"].append(latents.cpu().half())
        rows["c2w"].append(torch.from_numpy(c2w))
        rows["labels"].append(torch.from_numpy(labels))
        rows["need"].append(_need(clip, world))
    return {key: torch.stack(values) for key, values in rows.items()}


def _need(clip: Clip, world: World) -> torch.Tensor:
    """How much each latent needs memory, by true visibility; 0 where the recording has no depth."""
    if clip.depth is None or clip.c2w is None or clip.K is None:
        return torch.zeros(clip.num_latents)
    depth = torch.from_numpy(np.ascontiguousarray(clip.depth[::FRAMES_PER_LATENT])).float()
    seen = visibility(depth, torch.from_numpy(clip.c2w), torch.from_numpy(clip.K))
    temporal = world.config.memory.temporal_latents
    return memory_need(seen, chunk_latents=world.spec.chunk_latents, temporal_latents=temporal)
