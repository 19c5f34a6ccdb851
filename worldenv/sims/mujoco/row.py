"""One env of the table: physics, an episode's start, what is seen and measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...bodies.hand_model import FINGERS, HAND, HEAD, NUM_JOINTS, OPEN, PALM, PALM_FOV_DEG
from ...bodies.table import TABLE_HIGH, TABLE_LOW
from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ...geometry.camera import intrinsics
from .render import Camera, Layer, Picture, View
from .scene import COLOURS, SHAPES, SUBSTEPS, Array, Scene, load_mujoco, load_scene

APART = 0.125
"""Metres at least between where the object and the goal are at the start."""
MOST = 1000.0
"""What is read of places and speeds at most: an object that falls off the table falls on, and may spin ever faster."""
PARTS = (*(finger.name for finger in FINGERS), "palm")
"""What touches the object, in the order of the signal ``contact``."""


@dataclass(frozen=True)
class Placed:
    """Where things are when an episode begins."""

    shape: str
    colour: str
    object_xy: tuple[float, float]
    yaw: float
    goal_xy: tuple[float, float]
    joints: Tensor  # (26,) float64


class Shown(NamedTuple):
    """What one env shows: T frames, F latents."""

    frames: Tensor  # (T, H, W, 3) uint8
    depth: Tensor  # (T, H, W)
    segmentation: Tensor  # (T, H, W) uint8
    measured: dict[str, Tensor]  # each (F, ...)
    palm: Tensor | None  # (F, H, W, 3) uint8


def draw_start(seed: int, goal_xy: tuple[float, float] | None = None) -> Placed:
    """Draw an episode's start from its seed; a goal that is given changes where the object may lie and nothing else."""
    rng = np.random.default_rng(seed)
    shape, colour = list(SHAPES)[rng.integers(len(SHAPES))], list(COLOURS)[rng.integers(len(COLOURS))]
    yaw, wrist = rng.uniform(-0.6, 0.6), rng.uniform((-0.14, -0.09, 0.17), (-0.06, 0.07, 0.23))
    turn = rng.uniform(-0.1, 0.1, 3)
    fingers = OPEN.numpy() + rng.normal(0, 0.05, NUM_JOINTS - 6)
    while True:
        thing, goal = rng.uniform(TABLE_LOW, TABLE_HIGH), rng.uniform(TABLE_LOW, TABLE_HIGH)
        if goal_xy is not None:
            goal = np.array(goal_xy)
        if np.linalg.norm(thing - goal) >= APART:
            break
    joints = torch.from_numpy(np.concatenate([wrist, turn, fingers])).clamp(*HAND.limits)
    return Placed(shape, colour, tuple(thing.tolist()), yaw, tuple(goal.tolist()), joints)


class HandRow:
    """One table; a model for each kind of object is shared by all rows."""

    def __init__(self, spec: WorldSpec, goal: str, *, palm: bool, pictures: bool) -> None:
        width, height = spec.width, spec.height
        self.goal, self._blind = goal, _black(width, height)
        self.head = Camera(spec.K, width=width, height=height, c2w=HEAD.numpy()) if pictures else None
        lens = intrinsics(width, height, fov_deg=PALM_FOV_DEG)
        self.palm = Camera(lens, width=width, height=height) if palm else None
        self._data: dict[str, Any] = {}
        self._scene: Scene | None = None
        self._still: Layer | None = None
        self.colour = next(iter(COLOURS))
        self.commanded = torch.zeros(NUM_JOINTS, dtype=torch.float64)
        self.last: Shown | None = None

    @property
    def scene(self) -> Scene:
        """What is on the table.

        Raises:
            RuntimeError: before the first reset.
        """
        if self._scene is None:
            raise RuntimeError("this env has no episode yet; call reset first")
        return self._scene

    @property
    def data(self) -> Any:
        """MuJoCo's state."""
        return self._data[self.scene.shape]

    def start(self, placed: Placed) -> None:
        """Begin an episode."""
        mujoco = load_mujoco()
        self._load(placed.shape, placed.colour)
        data = self.data
        mujoco.mj_resetData(self.scene.model, data)
        data.qpos[:NUM_JOINTS] = data.ctrl[:] = placed.joints.numpy()
        turn = [np.cos(placed.yaw / 2), 0, 0, np.sin(placed.yaw / 2)]
        data.qpos[NUM_JOINTS:] = [*placed.object_xy, self.scene.height, *turn]
        data.mocap_pos[0, :2] = placed.goal_xy
        self.commanded = placed.joints.clone()
        self._see()

    def step(
        self,
        targets: Tensor,  # (F, 26), within the joints' ranges
    ) -> Shown:
        """Move towards each latent's targets, evenly over its frames."""
        mujoco, pictures, ends, palms = load_mujoco(), [], [], []
        for target in targets.double():
            for frame in range(1, FRAMES_PER_LATENT + 1):
                part = frame / FRAMES_PER_LATENT
                self.data.ctrl[:] = (self.commanded + part * (target - self.commanded)).numpy()
                mujoco.mj_step(self.scene.model, self.data, SUBSTEPS)
                mujoco.mj_fwdPosition(self.scene.model, self.data)
                pictures.append(self._picture())
            self.commanded = target.clone()
            ends.append(self._measure())
            palms.append(self._palm_frame())
        self.last = _shown(pictures, ends, palms)
        return self.last

    def view(self) -> Shown:
        """Return the newest moment alone."""
        assert self.last is not None
        frames, depth, segmentation, measured, palm = self.last
        ends = {name: part[-1:] for name, part in measured.items()}
        return Shown(frames[-1:], depth[-1:], segmentation[-1:], ends, None if palm is None else palm[-1:])

    def state(self) -> dict[str, Tensor]:
        """Copy all that the episode depends on."""
        mujoco, model = load_mujoco(), self.scene.model
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.zeros(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, self.data, physics, kind)
        names = (list(SHAPES).index(self.scene.shape), list(COLOURS).index(self.colour))
        return {"physics": torch.from_numpy(physics), "commanded": self.commanded.clone(), "kind": torch.tensor(names)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a copied state."""
        mujoco = load_mujoco()
        shape, colour = state["kind"].tolist()
        self._load(list(SHAPES)[shape], list(COLOURS)[colour])
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(self.scene.model, self.data, state["physics"].numpy(), kind)
        self.commanded = state["commanded"].clone()
        self._see()

    def _load(self, shape: str, colour: str) -> None:
        self._scene, self.colour = load_scene(shape, self.goal), colour
        if shape not in self._data:
            self._data[shape] = load_mujoco().MjData(self._scene.model)

    def _see(self) -> None:
        """Look at a moment that no step has led to."""
        load_mujoco().mj_fwdPosition(self.scene.model, self.data)
        self._still = None if self.head is None else self.head.still(self._looked(HEAD.numpy()))
        self.last = _shown([self._picture()], [self._measure()], [self._palm_frame()])

    def _looked(self, c2w: Array) -> View:
        return View(self.scene, self.data, c2w, np.array(COLOURS[self.colour], np.float32))

    def _picture(self) -> Picture:
        if self.head is None:
            return self._blind
        return self.head.shoot(self._looked(HEAD.numpy()), self._still)

    def _palm_frame(self) -> Tensor | None:
        if self.palm is None:
            return None
        wrist, c2w = self.scene.links[0], np.eye(4)
        c2w[:3, :3], c2w[:3, 3] = self.data.xmat[wrist].reshape(3, 3), self.data.xpos[wrist]
        return torch.from_numpy(self.palm.shoot(self._looked(c2w @ PALM.numpy())).frame)

    def _measure(self) -> dict[str, Tensor]:
        """Read the signals of this moment off the physics."""
        data, scene = self.data, self.scene
        moving = np.concatenate([data.qpos[:NUM_JOINTS], data.qvel[:NUM_JOINTS]])
        poses = data.xmat[scene.keypoint_links].reshape(-1, 3, 3)
        points = data.xpos[scene.keypoint_links] + np.einsum("nij,nj->ni", poses, scene.keypoint_offsets)
        pairs = data.contact.geom[data.contact.dist <= 0]
        on_object = pairs[(pairs == scene.object_geom).any(1)].ravel()
        touched = np.zeros(len(PARTS), np.float32)
        parts = scene.parts[on_object]
        touched[parts[parts >= 0]] = 1
        thing = np.concatenate([data.qpos[NUM_JOINTS:], data.qvel[NUM_JOINTS:]])
        moving, thing = (part.clip(-MOST, MOST) for part in (moving, thing))
        measured = {"joints": self.commanded.numpy(), "proprio": moving, "keypoints": points, "object": thing}
        measured |= {"contact": touched, "target": data.mocap_pos[0]}
        return {name: torch.from_numpy(np.array(value, np.float32)) for name, value in measured.items()}


def _black(width: int, height: int) -> Picture:
    """Return what is seen where nobody looks."""
    size = (height, width)
    return Picture(np.zeros((*size, 3), np.uint8), np.zeros(size, np.float32), np.zeros(size, np.uint8))


def _shown(pictures: list[Picture], ends: list[dict[str, Tensor]], palms: list[Tensor | None]) -> Shown:
    frames, depth, segmentation = (torch.from_numpy(np.stack(parts)) for parts in zip(*pictures, strict=True))
    measured = {name: torch.stack([end[name] for end in ends]) for name in ends[0]}
    seen = [palm for palm in palms if palm is not None]
    return Shown(frames, depth, segmentation, measured, torch.stack(seen) if seen else None)
