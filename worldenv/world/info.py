"""What a world is, in words."""

from __future__ import annotations

from torch import nn

from ..memory.config import num_slots
from .world import World


def describe_world(world: World) -> str:
    """Return spec, sizes, memory and provenance as text."""
    config, spec = world.config, world.spec
    steps = spec.steps
    lines = [
        f"world {config.name}, format {config.format}, licence {config.licence}",
        f"picture   {spec.width} x {spec.height}, {spec.fov_deg:g} degrees across, {spec.fps} frames/s",
        f"step      {spec.chunk_latents} latents = {spec.chunk_frames} frames"
        + (f"; keys move {steps.move:g} m and turn {steps.turn_deg:g} degrees per latent" if spec.has_camera else ""),
        f"takes     {', '.join(f'{name} {signal.shape}' for name, signal in spec.takes.items())}",
        f"vae       {_millions(world.vae)}, {config.dit.latent_channels} channels at 1/{world.vae.spatial_factor}, "
        f"{spec.frames_per_latent} frame(s) per latent",
        f"dit       {_millions(world.dit)}, width {config.dit.width}, {config.dit.num_layers} layers",
        f"sampler   {config.sampler.num_steps} steps, shift {config.sampler.shift:g}, order {config.sampler.order}"
        + (f", rolling window, {config.sampler.lookahead_policy}" if config.sampler.rolling else ""),
        f"memory    {config.memory.policy}: {config.memory.temporal_latents} recent latents and "
        f"{config.memory.retrieved_chunks} retrieved chunk(s)"
        + (f", rendered from {config.memory.rendering.sources} views" if world.renders(config.memory) else ""),
        *(f"head      {name}, {_millions(head)}" for name, head in world.heads.items()),
        f"starts    {len(world.starts) if world.starts is not None else 0} start views"
        + (f", {len(world.clips)} clips" if world.clips is not None else "")
        + (f", {len(world.moments)} recorded moments" if world.moments is not None else ""),
        "trained",
    ]
    lines += [
        f"  {p.stage:14s} {p.steps} steps, {p.hours:g} h on {p.hardware}; {p.data}; git {p.git}, seed {p.seed}"
        + (f", {p.blend:g} of the way" if p.blend != 1 else "")
        + (f"; teacher: {p.teacher}" if p.teacher else "")
        for p in config.provenance
    ]
    return "\n".join([*lines, *_memory_lines(world), f"sha256    {_identity(world)}", *_notes(world)])


def _identity(world: World) -> str:
    """Say what its files hash to, and whether they are known to be those that were written."""
    if not world.sha256:
        return "not hashed: a release's files; world.files.release_sha256 does" if world.notice else "not saved"
    if not world.sums:
        return f"{world.sha256}, not checked: world.toml has no [sha256] of its files; what export --weights writes has"
    return f"{world.sha256}, files as world.toml lists them"


def _memory_lines(world: World) -> list[str]:
    """What stepping takes, by precision and resolution: weights, and keys and values per env."""
    config, spec = world.config, world.spec
    dit, factor = config.dit, world.vae.spatial_factor * config.dit.patch
    slots = num_slots(config.memory, spec.chunk_latents) + spec.chunk_latents
    weights = sum(p.numel() for module in world.parts().values() for p in module.parameters())
    lines = ["needs     weights and, per env, keys and values of its context"]
    for name, size in (("bfloat16", 2), ("float32", 4)):
        for height, width in sorted({(spec.height, spec.width), (spec.height // 2, spec.width // 2)}):
            tokens = (height // factor) * (width // factor) * slots
            cache = 2 * dit.num_branches * dit.num_layers * dit.width * tokens * size
            lines.append(f"  {name:9s} {width} x {height}: {_bytes(weights * size)} and {_bytes(cache)}")
    return lines


def _notes(world: World) -> list[str]:
    return [f"licence   {world.notice}"] if world.notice else []


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def _millions(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M parameters"
