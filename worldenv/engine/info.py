"""What a world is, in words."""

from __future__ import annotations

from torch import nn

from .world import World


def describe_world(world: World) -> str:
    """Return spec, sizes, memory and provenance as text."""
    config, spec = world.config, world.spec
    steps = spec.steps
    lines = [
        f"world {config.name}, format {config.format}, licence {config.licence}",
        f"picture   {spec.width} x {spec.height}, {spec.fov_deg:g} degrees across, {spec.fps} frames/s",
        f"step      {spec.chunk_latents} latents = {spec.chunk_frames} frames; keys move {steps.move:g} m and turn "
        f"{steps.turn_deg:g} degrees per latent",
        f"vae       {_millions(world.vae)}, {config.vae.latent_channels} channels at 1/8, 4 frames per latent",
        f"dit       {_millions(world.dit)}, width {config.dit.width}, {config.dit.num_layers} layers",
        f"sampler   {config.sampler.num_steps} steps, shift {config.sampler.shift:g}",
        f"memory    {config.memory.policy}: {config.memory.temporal_latents} recent latents and "
        f"{config.memory.retrieved_chunks} retrieved chunk(s)",
        f"starts    {len(world.starts) if world.starts is not None else 0} start views",
        "trained",
    ]
    lines += [
        f"  {p.stage:14s} {p.steps} steps, {p.hours:g} h on {p.hardware}; {p.data}; git {p.git}, seed {p.seed}"
        for p in config.provenance
    ]
    return "\n".join([*lines, f"sha256    {world.sha256 or 'not saved'}"])


def _millions(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M parameters"
