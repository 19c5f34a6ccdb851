"""What stands on the table, as MJCF written from the hand's own numbers, and compiled once per kind of object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from ...base.objects import import_extra
from ...bodies.hand_model import FINGERS, FOREARM, HAND, NUM_WRIST, PALM_CENTRE, PALM_HALF, Capsule, capsules

Array = npt.NDArray[Any]

FPS = 24
SUBSTEPS = 10
"""Steps of physics in a frame."""
SHAPES: dict[str, tuple[str, tuple[float, ...], float]] = {
    "cube": ("box", (0.024, 0.024, 0.024), 0.024),
    "can": ("cylinder", (0.023, 0.032), 0.032),
    "ball": ("sphere", (0.028,), 0.028),
}
"""MuJoCo's type and size of each object, and how high its centre is while it stands, metres."""
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.16, 0.16),
    "yellow": (0.95, 0.80, 0.15),
    "green": (0.22, 0.70, 0.28),
    "purple": (0.55, 0.25, 0.75),
}
SEGMENTS = ("table", "tray", "mark", "sleeve", "hand", "object")
"""Segmentation holds 0 where nothing is, or 1 + the index of one of these."""
PAINT: dict[str, tuple[float, float, float]] = {
    "table": (0.56, 0.44, 0.31),
    "tray": (0.20, 0.40, 0.80),
    "mark": (0.92, 0.92, 0.90),
    "sleeve": (0.22, 0.26, 0.45),
    "hand": (0.87, 0.66, 0.53),
}
TRAY_RADIUS = 0.058
MARK_RADIUS = 0.045
STILL, MOVING = 0, 1
"""Groups of geoms: what does not move within an episode, and what does."""


@dataclass(frozen=True)
class Scene:
    """A compiled model, and what its geoms are."""

    model: Any
    shape: str
    segments: Array  # (G,) uint8, 1 + index into SEGMENTS
    paint: Array  # (G, 3) float32
    moving: Array  # (G,) bool: all but table, tray and mark
    object_geom: int
    parts: Array  # (G,) int: which of row.PARTS a geom is of, -1 for others
    links: Array  # (L,) body of each of the hand's links
    keypoint_links: Array  # (21,) body that carries each keypoint
    keypoint_offsets: Array  # (21, 3)

    @property
    def height(self) -> float:
        """How high the object's centre is while it stands."""
        return SHAPES[self.shape][2]


def load_mujoco() -> Any:
    """Import mujoco.

    Raises:
        ImportError: if it is not installed.
    """
    return import_extra("mujoco", extra="manip", needs="the hand's simulator needs MuJoCo")


@cache
def load_scene(shape: str, goal: str) -> Scene:
    """Compile the table with an object of this shape and a ``tray`` or a ``mark``."""
    model = load_mujoco().MjModel.from_xml_string(write_scene(shape, goal))
    names = [model.geom(i).name.partition("/")[::2] for i in range(model.ngeom)]
    fingers = [finger.name for finger in FINGERS]
    parts = [fingers.index(p.partition("_")[0]) if p.partition("_")[0] in fingers else -1 for _, p in names]
    links = np.array([model.body(link.name).id for link in HAND.links])
    return Scene(
        model=model,
        shape=shape,
        segments=np.array([1 + SEGMENTS.index(name) for name, _ in names], np.uint8),
        paint=np.array([PAINT.get(name, (1.0, 1.0, 1.0)) for name, _ in names], np.float32),
        moving=model.geom_group == MOVING,
        object_geom=int(model.geom("object").id),
        parts=np.array([len(fingers) if name == ("hand", "palm") else part for name, part in zip(names, parts)]),
        links=links,
        keypoint_links=links[[point.link for point in HAND.keypoints]],
        keypoint_offsets=np.array([point.offset for point in HAND.keypoints]),
    )


def write_scene(shape: str, goal: str) -> str:
    """Return the MJCF of the table with one object and a ``tray`` or a ``mark``."""
    root = ElementTree.Element("mujoco")
    _add(root, "compiler", angle="radian")
    _add(root, "option", timestep=1 / (FPS * SUBSTEPS), integrator="implicitfast", cone="elliptic", impratio=5)
    defaults = _add(root, "default")
    skin = _add(defaults, "default", {"class": "skin"})
    _add(skin, "geom", friction="1.3 0.02 0.001", condim=4, mass=0.015, solref="0.008 1", group=MOVING)
    world = _add(root, "worldbody")
    _add(
        world,
        "geom",
        name="table",
        type="box",
        pos="0.1 0 -0.02",
        size="1 1 0.02",
        friction="0.5 0.02 0.001",
        group=STILL,
    )
    _write_goal(world, goal)
    _write_hand(world)
    kind, size, height = SHAPES[shape]
    thing = _add(world, "body", name="object", pos=(0, 0, height))
    _add(thing, "freejoint", name="object")
    look = {"mass": 0.06, "friction": "0.5 0.02 0.003", "condim": 6, "group": MOVING}  # a ball of felt, that stops
    _add(thing, "geom", name="object", type=kind, size=size, **look)
    _write_actuators(root)
    return ElementTree.tostring(root, encoding="unicode")


def _write_goal(world: ElementTree.Element, goal: str) -> None:
    """Put a rimmed tray or a painted mark on the table: a body that is placed before an episode and stays."""
    body = _add(world, "body", name="goal", mocap="true")
    if goal == "mark":
        painted = {"type": "cylinder", "size": (MARK_RADIUS, 0.0004), "contype": 0, "conaffinity": 0, "group": STILL}
        _add(body, "geom", name="mark", **painted)
        return
    floor = {"type": "cylinder", "size": (TRAY_RADIUS, 0.002), "pos": (0, 0, 0.002), "group": STILL}
    _add(body, "geom", name="tray", friction="1 0.02 0.002", **floor)
    for i in range(12):
        angle = i * math.pi / 6
        at = (TRAY_RADIUS * math.cos(angle), TRAY_RADIUS * math.sin(angle), 0.006)
        side = {"type": "box", "size": (0.003, 0.017, 0.005), "pos": at, "euler": (0, 0, angle), "group": STILL}
        _add(body, "geom", name=f"tray/{i}", **side)


def _write_hand(world: ElementTree.Element) -> None:
    """Write the hand's links, joints and geoms; gravity does not pull on it."""
    bodies: list[ElementTree.Element] = []
    for i, link in enumerate(HAND.links):
        at = {"name": link.name, "pos": link.position, "quat": link.quat, "gravcomp": 1}
        bodies.append(_add(world if link.parent < 0 else bodies[link.parent], "body", **at))
        for k, joint in enumerate(HAND.joints):
            if joint.link == i:
                armature, damping = (0.05, 12) if joint.slides else (0.005, 0.5) if k < NUM_WRIST else (0.0008, 0.06)
                moves = {"type": "slide" if joint.slides else "hinge", "axis": joint.axis, "damping": damping}
                _add(bodies[i], "joint", name=joint.name, range=(joint.low, joint.high), armature=armature, **moves)
    named = {link.name: body for link, body in zip(HAND.links, bodies, strict=True)}
    palm = {"type": "box", "pos": PALM_CENTRE, "size": PALM_HALF}
    _add(named["wrist"], "geom", {"class": "skin"}, name="hand/palm", **palm)
    _capsule(named["wrist"], FOREARM, name="sleeve", contype=0, conaffinity=0)
    for bone in capsules():
        _capsule(named[bone.link], bone, name=f"hand/{bone.link}")


def _capsule(body: ElementTree.Element, rod: Capsule, **how: Any) -> None:
    _add(body, "geom", {"class": "skin"}, type="capsule", fromto=(*rod.start, *rod.end), size=rod.radius, **how)


def _write_actuators(root: ElementTree.Element) -> None:
    """Write a position servo for each joint of the hand."""
    actuators = _add(root, "actuator")
    for k, joint in enumerate(HAND.joints):
        stiffness = 600 if joint.slides else 12 if k < NUM_WRIST else 1.6
        how: dict[str, Any] = {"ctrlrange": (joint.low, joint.high), "kp": stiffness}
        if joint.slides:
            how["forcerange"] = (-60, 60)
        _add(actuators, "position", name=joint.name, joint=joint.name, **how)


def _add(
    parent: ElementTree.Element, tag: str, first: dict[str, str] | None = None, /, **more: Any
) -> ElementTree.Element:
    """Append an element; numbers and tuples of them become text."""
    texts = {key: " ".join(map(str, v)) if isinstance(v, tuple) else str(v) for key, v in more.items()}
    return ElementTree.SubElement(parent, tag, {**(first or {}), **texts})
