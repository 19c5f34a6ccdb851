"""``World``: the artifact on disk that training makes and everything else steps.

A directory with ``world.toml`` (format version, picture, camera, steps, sizes, sampler, memory, provenance) and
safetensors files: ``vae``, ``dit``, ``starts``, and ``heads.*``, ``clips`` and ``moments`` if it has those. Every
training stage writes one: a run of stages is a chain of worlds.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..base.budget import Budget
from ..base.checkpoint import load_module, load_tensors, save_tensors, tensor_shapes
from ..base.config import dump_toml, from_dict, read_toml, to_dict
from ..base.device import resolve_device, resolve_dtype
from ..base.documents import is_format
from ..base.files import save_text
from ..base.lock import in_use
from ..base.said import named
from ..dynamics.spec import WorldSpec
from ..memory.config import NEVER, MemoryConfig
from ..models.backend import resolve_backend
from ..models.codec import Codec
from ..models.dit import WorldDiT
from ..models.heads import HEADS, DepthHead, DisplayHead, HeadConfigs, make_heads
from ..models.pretrained.release import is_release
from ..models.vae import VAE
from .clips import Clips, load_clips, make_clips
from .config import FORMAT, DoubtConfig, Provenance, WorldConfig, config_digest
from .files import PARTS, SUMS, check_sums, find_world, read_sums, release_sha256, world_sha256, world_sums
from .histories import Histories, load_histories
from .pose_video import GraspView
from .starts import Starts, load_starts
from .worldplay import load_release


class World:
    """A generated world: configuration, VAE, transformer, start views, depth head."""

    def __init__(
        self,
        config: WorldConfig,
        *,
        vae: Codec | None = None,
        dit: WorldDiT | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        starts: Starts | None = None,
        clips: Clips | None = None,
        moments: Histories | None = None,
    ) -> None:
        self.config = config
        self.vae: Codec = VAE(config.vae) if vae is None else vae
        self.dit = WorldDiT(config.dit) if dit is None else dit
        if config.dit.sees_grasp:
            self.dit.grasp = GraspView(config.spec, "grasp_offsets" if config.dit.grasp_offsets else "grasp_branch")
        self.heads = make_heads(config.heads) if heads is None else dict(heads)
        self.starts, self.clips, self.moments = starts, clips, moments
        self.prompts: Callable[[str], Tensor] | None = None  # prompt to embedding, in worlds with text
        self.notice = ""  # what its licence excludes, shown before use
        self.sha256 = ""
        self.sums: dict[str, str] = {}  # of its files, as world.toml has them; worlds of earlier versions have none

    @property
    def spec(self) -> WorldSpec:
        """Picture, camera, clock, steps."""
        return self.config.spec

    def parts(self) -> dict[str, nn.Module]:
        """Return everything with weights, by the names of its files."""
        return {"vae": self.vae, "dit": self.dit, **{f"heads.{name}": head for name, head in self.heads.items()}}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent, (C, h, w)."""
        factor = self.vae.spatial_factor
        return self.config.dit.latent_channels, self.spec.height // factor, self.spec.width // factor

    def identity(self) -> dict[str, str]:
        """Return what reports say of the world: its name, the hash of its files, and how it is computed."""
        dtype, device = self.dit.dtype, self.dit.proj_out.weight.device
        backend = resolve_backend(self.dit.backend, device=device, dtype=dtype, head_dim=self.config.dit.head_dim)
        how = f"{str(dtype).removeprefix('torch.')} {backend}"
        return {"name": self.config.name, "sha256": self.sha256, "computation": how}

    def fingerprint(self) -> str:
        """Return the hash of the world's files, or of its weights if it has none, and of its configuration."""
        if self.sha256:
            return f"{self.sha256} {config_digest(self.config)}"
        digest = hashlib.sha256(config_digest(self.config).encode())
        for module in self.parts().values():
            for name, tensor in sorted(module.state_dict().items()):
                digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def require_starts(self) -> Starts:
        """Return the start views, or say that this world has none."""
        if self.starts is None:
            raise ValueError(f"world {self.config.name!r} has no start views; reset with options={{'image': ...}}")
        return self.starts

    def require_clips(self, what: str) -> Clips:
        """Return the clips that episodes can begin from, or say that this world has none."""
        if self.clips is None:
            raise ValueError(
                f"{what} begins with a recorded clip, and world {self.config.name!r} has none; give it some with "
                "`worldenv export --clips 64`, where the simulator is installed"
            )
        return self.clips

    def require_moments(self, what: str) -> Histories:
        """Return the recorded moments that episodes can begin at, or say that this world has none."""
        if self.moments is None:
            raise ValueError(
                f"{what} begins at recorded moments, and world {self.config.name!r} has none; `worldenv train heads` "
                "on a recording of an environment keeps some"
            )
        return self.moments

    @property
    def depth_head(self) -> DepthHead | None:
        """The depth head, if there is one."""
        head = self.heads.get("depth")
        assert head is None or isinstance(head, DepthHead)
        return head

    def require_depth_head(self) -> DepthHead:
        """Return the depth head, or say that this world has none."""
        if self.depth_head is None:
            raise ValueError(f"world {self.config.name!r} has no depth head; train one with `worldenv train heads`")
        return self.depth_head

    @property
    def display(self) -> DisplayHead | None:
        """The display decoder, if there is one."""
        head = self.heads.get("display")
        assert head is None or isinstance(head, DisplayHead)
        return head

    def require_display(self) -> DisplayHead:
        """Return the display decoder, or say that this world has none."""
        if self.display is None:
            raise ValueError(
                f"world {self.config.name!r} has no display decoder; train one with `worldenv train display`"
            )
        return self.display

    def enlarge(
        self,
        frames: Tensor,  # (..., H, W, 3) uint8
    ) -> Tensor:
        """Return frames as people are shown them: pictures of the display decoder if there is one, else themselves."""
        return frames if self.display is None else self.display.show(frames)

    def renders(self, memory: MemoryConfig) -> bool:
        """Tell whether it is stepped with rendered memory.

        Raises:
            ValueError: if it is asked to and cannot.
        """
        rolling = self.config.sampler.rolling
        able = self.depth_head is not None and self.spec.has_camera and not rolling and not self.spec.start_in_chunk
        if memory.render and not able:
            self.require_depth_head()
            self.spec.require_camera("memory.render=true")
            window = "a rolling window denoises several chunks at once"
            why = window if rolling else "its start view is part of the first chunk"
            raise ValueError(f"memory.render=true: {why}; set render=false")
        return able if memory.render is None else memory.render

    def has_walls(self, memory: MemoryConfig) -> bool:
        """Tell whether what it remembers to be solid stops the camera of an environment.

        Raises:
            ValueError: if it is asked to and cannot.
        """
        if memory.walls and not self.renders(memory):
            raise ValueError("memory.walls=true: walls are seen in the depth of rendered memory; leave render on")
        able = self.renders(memory) and self.spec.steps.motion == "walk"
        return able if memory.walls is None else memory.walls

    def unguided(self) -> MemoryConfig:
        """Return its memory as it is when renders do not guide the sampler: what the transformer knows by itself."""
        memory = self.config.memory
        if not self.config.dit.render_input:
            return replace(memory, render=False)
        return replace(memory, rendering=replace(memory.rendering, until=NEVER))

    def require_prompts(self) -> Callable[[str], Tensor]:
        """Return what encodes prompts, or say that this world takes none."""
        if self.prompts is None:
            raise ValueError("this world takes no prompt: it was trained without text; leave options['prompt'] out")
        return self.prompts

    def with_stage(self, stage: Provenance, **changes: Any) -> WorldConfig:
        """Return the configuration after one more stage."""
        return replace(self.config, provenance=(*self.config.provenance, stage), **changes)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the world to a directory, the inverse of ``from_pretrained``, bit-exact.

        Raises:
            ValueError: for a released model, which is stepped from its own files.
        """
        if not isinstance(self.vae, VAE):
            raise ValueError(f"world {self.config.name!r} is stepped from its release's files; keep that directory")
        path = Path(folder)
        kept = {"starts": self.starts, "clips": self.clips, "moments": self.moments}
        parts = {name: module.state_dict() for name, module in self.parts().items()}
        parts |= {name: part.tensors() for name, part in kept.items() if part is not None}
        for name, tensors in parts.items():
            save_tensors(path / f"{name}.safetensors", tensors, sums=False)  # world.toml has the files'
        for name in set(PARTS) - set(parts):  # of a world that was here before
            (path / f"{name}.safetensors").unlink(missing_ok=True)
        values = to_dict(self.config)
        stages = {f"{i:02d}": stage for i, stage in enumerate(values.pop("provenance"))}
        told = {**values, "provenance": stages, SUMS: world_sums(path)}
        save_text(path / "world.toml", dump_toml(told))  # the last: where it is, all is

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "stored",
        backend: str = "auto",
        revision: str | None = None,
        sha256: str = "",
        verify: bool = True,
    ) -> World:
        """Load a packaged world by name, a directory, or (online) ``hub:org/name`` on the Hugging Face hub.

        Args:
            name: the world.
            device: ``auto``, ``cpu``, ``cuda`` ...
            dtype: ``stored`` as the files have it (a release: see ``load_release``), ``auto`` as the device is
                fastest, ``float32`` or ``bfloat16``.
            backend: see ``compute_with``.
            revision: branch, tag or commit of a world on the hub; by default the newest.
            sha256: what the world's files must hash to (``worldenv info`` shows it); empty is anything. Of a release,
                whose 20 GB are else not read twice, ``world.files.release_sha256``.
            verify: whether its files must be those whose sha256 stand in its ``world.toml``.

        Raises:
            ValueError: if there is no such world, or its files are missing, truncated, do not fit together or are not
                those that were written or asked for.
        """
        where, path = resolve_device(device), find_world(name, revision=revision)
        if sha256:
            found = release_sha256(path) if is_release(path) else world_sha256(path)
            if found != sha256:
                raise ValueError(f"{name} has sha256 {found}, asked for {sha256}; it is another version")
        kind = None if dtype == "stored" else resolve_dtype(dtype, where)
        if is_release(path):
            world = cls.from_worldplay(path, device=where, dtype=kind)
        else:
            world = cls.load(path, verify=verify)
            for module in world.parts().values():
                module.to(where, kind)
        return world.compute_with(dtype=kind or world.dit.dtype, backend=backend)

    def compute_with(self, *, dtype: torch.dtype, backend: str = "auto") -> World:
        """Set how the transformer computes, in place.

        Args:
            dtype: of its weights.
            backend: ``torch``, ``onednn`` (CPU), ``triton`` (GPU; attention to memory by kernels over its pages), or
                ``auto`` for the fastest here; see ``models.backend``.
        """
        device, head_dim = self.dit.proj_out.weight.device, self.dit.config.head_dim
        resolve_backend(backend, device=device, dtype=dtype, head_dim=head_dim)
        if self.dit.dtype != dtype:  # a release keeps some of its layers in float32
            self.dit.to(dtype)
        self.dit.backend = backend
        return self

    @classmethod
    def from_worldplay(cls, folder: str | Path, **options: Any) -> World:
        """Load Tencent's released WorldPlay-5B (WAN variant); see ``world.worldplay.load_release``."""
        release = load_release(folder, **options)
        world = cls(release.config, vae=release.vae, dit=release.dit)
        world.notice, world.prompts = release.notice, release.prompts
        return world

    @classmethod
    def load(cls, path: Path, *, verify: bool = True) -> World:
        """Load the world in a directory, as ``save_pretrained`` wrote it.

        Raises:
            ValueError: if its files do not fit together or, with ``verify``, are not those that ``world.toml`` lists.
        """
        world, sums = cls._read(path)
        world.sha256, world.sums = world_sha256(path), sums
        if verify and sums:
            check_sums(path, sums, world.sha256)
        return world

    @classmethod
    def _read(cls, path: Path) -> tuple[World, dict[str, str]]:
        """Read a world, and what its files are to hash to."""
        values = read_toml(path / "world.toml")
        found = values.get("format")
        if not is_format(found, FORMAT):
            raise ValueError(f"{path / 'world.toml'}: world format {found!r}, this version reads {FORMAT}")
        stages = values.pop("provenance", {})
        if not isinstance(stages, dict):
            raise ValueError(f"{path / 'world.toml'}: provenance is {str(stages)[:80]!r}, expected a table of stages")
        sums = read_sums(path, values.pop(SUMS, {}))
        values["provenance"] = [stages[key] for key in sorted(stages)]
        if "depth" in values:  # where the only head there was stood
            values["heads"] = {"depth": values.pop("depth")}
        config = from_dict(WorldConfig, values, where=str(path / "world.toml"))
        with Budget(_count_weights(path, config.heads), where=str(path / "world.toml")):
            world = cls(config)
        for name, module in world.parts().items():
            file = path / f"{name}.safetensors"
            tensors, _ = load_tensors(file)
            load_module(module.to(_weights_dtype(tensors)), tensors, where=str(file))
            module.eval().requires_grad_(False)
        world.starts = load_starts(path / "starts.safetensors", world.spec)
        world.clips = load_clips(path / "clips.safetensors", world.spec, world.latent_shape)
        world.moments = load_histories(path / "moments.safetensors", world.spec, world.latent_shape)
        return world, sums


def _count_weights(path: Path, heads: HeadConfigs) -> int:
    """Return how many numbers there are in the files of everything with weights."""
    names = ("vae", "dit", *(f"heads.{name}" for name in HEADS if getattr(heads, name) is not None))
    shapes = [tensor_shapes(path / f"{name}.safetensors") for name in names]
    return sum(math.prod(shape) for part in shapes for shape in part.values())


def _weights_dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """Return the dtype of the first weights; what holds none fits no model anyway."""
    return next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)


MOST_NAME = 200
"""Characters of a name that a world is given."""


def convert_world(
    name: str | Path,
    folder: Path,
    *,
    dtype: str,
    name_as: str = "",
    num_clips: int = 0,
    doubt: DoubtConfig | None = None,
) -> World:
    """Write a world with weights in another precision to ``folder``, under another name if one is given.

    With ``num_clips`` it gets so many clips that episodes can begin from, encoded in float32; ``doubt`` says how its
    uncertainty is read from now on.
    """
    if not name_as.isprintable() or len(name_as) > MOST_NAME:
        raise ValueError(f"name={named(name_as)}: a world's name is one line of up to {MOST_NAME} characters")
    world = World.from_pretrained(name, dtype=dtype)
    if num_clips:
        exact = World.from_pretrained(name, dtype="float32")
        exact.spec.require_camera("making clips")
        world.clips = make_clips(exact.vae, exact.spec, num_clips)
    if name_as:
        world.config = replace(world.config, name=name_as)
    if doubt is not None:
        world.config = replace(world.config, doubt=doubt)
    with in_use(folder):
        world.save_pretrained(folder)
    return world


_shared: dict[tuple[str, ...], World] = {}
_lock = threading.Lock()


def shared_world(name: str | Path, *, device: torch.device, dtype: torch.dtype, backend: str = "auto") -> World:
    """Return the world on a device, loaded once per process however many envs use it."""
    resolve_backend(backend, device=device, dtype=dtype)
    path, kind = find_world(name).resolve(), str(dtype).removeprefix("torch.")
    key = (str(path), str(device), kind, backend)
    with _lock:
        if key not in _shared:
            _shared[key] = World.from_pretrained(path, device=key[1], dtype=kind, backend=backend)
        return _shared[key]
