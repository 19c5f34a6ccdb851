"""Robots read from MJCF files, as MuJoCo compiles them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..base.objects import import_extra
from ..geometry.camera import Pinhole, intrinsics
from ..geometry.kinematics import Joint, Keypoint, Link, Robot

_FREE, _BALL, _SLIDE = 0, 1, 2  # values of mjtJoint


def read_model(path: Path) -> Any:
    """Compile an MJCF file.

    Raises:
        ImportError: if mujoco is not installed.
        ValueError: if the file is missing or does not compile.
    """
    mujoco = import_extra("mujoco", extra="manip", needs="MJCF files are read by MuJoCo")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; pass the path of an MJCF file (.xml)")
    return mujoco.MjModel.from_xml_path(str(path))


def read_robot(model: Any) -> Robot:
    """Return the links that joints move, and those that they hang on.

    Keypoints are the origins of the links that move, and the sites of those that end a limb; where a limb branches, its
    parts become groups. Bodies that float freely are objects, not robots.

    Raises:
        ValueError: naming a joint without a range, or of a kind that has none; or that nothing can be moved.
    """
    parents = model.body_parentid.tolist()
    first = [int(model.body_jntadr[i]) for i in range(model.nbody)]
    floating = _below(parents, [i for i, k in enumerate(first) if k >= 0 and model.jnt_type[k] == _FREE])
    jointed = [i for i in range(model.nbody) if first[i] >= 0 and i not in floating]
    moving = _below(parents, jointed) - floating
    if not moving:
        raise ValueError("no joint moves a link of this file; an arm or a hand has hinges or slides")
    kept = sorted(moving | {above for body in jointed for above in _ancestors(parents, body)})
    place = {body: i for i, body in enumerate(kept)}
    links = tuple(
        Link(
            name=model.body(body).name or f"body {body}",
            parent=place.get(parents[body], -1),
            position=tuple(model.body_pos[body].tolist()),
            quat=tuple(model.body_quat[body].tolist()),
        )
        for body in kept
    )
    joints = tuple(
        _joint(model, k, place[int(model.jnt_bodyid[k])]) for k in range(model.njnt) if _of(model, k) in moving
    )
    return Robot(links, joints, _keypoints(model, sorted(moving), parents, place))


def read_camera(model: Any, name: str, size: int) -> Pinhole:
    """Return a camera of the file that stands still, with square pictures.

    Raises:
        ValueError: if there is none of this name, or it moves with the robot.
    """
    import mujoco

    if size < 1:
        raise ValueError(f"size={size}: pictures have 1 pixel a side or more")
    known = [model.camera(i).name for i in range(model.ncam)]
    if name not in known:
        raise ValueError(
            f"camera={name!r}: the file has {', '.join(known) or 'no cameras'}; name one, or pass a Pinhole"
        )
    index = known.index(name)
    if model.body_weldid[model.cam_bodyid[index]] != 0 or model.cam_mode[index] != mujoco.mjtCamLight.mjCAMLIGHT_FIXED:
        raise ValueError(f"camera={name!r} moves with the robot; pose videos are seen by one that stands still")
    if model.cam_orthographic[index]:
        raise ValueError(f"camera={name!r} is orthographic; pose videos are seen in perspective")
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    c2w = torch.eye(4, dtype=torch.float64)
    turn = torch.from_numpy(data.cam_xmat[index].reshape(3, 3).copy())
    c2w[:3, :3] = turn * torch.tensor([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z, y up
    c2w[:3, 3] = torch.from_numpy(data.cam_xpos[index].copy())
    return Pinhole(c2w, intrinsics(size, size, fov_deg=float(model.cam_fovy[index])).double(), size, size)


def _of(model: Any, joint: int) -> int:
    return int(model.jnt_bodyid[joint])


def _joint(model: Any, k: int, link: int) -> Joint:
    name = model.joint(k).name or f"joint {k}"
    if model.jnt_type[k] in (_FREE, _BALL):
        raise ValueError(f"joint {name!r} is a ball or free joint; commands are numbers of hinges and slides")
    if not model.jnt_limited[k]:
        raise ValueError(f"joint {name!r} has no limits; give it a range= in the file")
    low, high = model.jnt_range[k].tolist()
    return Joint(
        name=name,
        link=link,
        axis=tuple(model.jnt_axis[k].tolist()),
        anchor=tuple(model.jnt_pos[k].tolist()),
        slides=bool(model.jnt_type[k] == _SLIDE),
        low=low,
        high=high,
        rest=float(model.qpos0[model.jnt_qposadr[k]]),
    )


def _keypoints(model: Any, moving: list[int], parents: list[int], place: dict[int, int]) -> tuple[Keypoint, ...]:
    children = {body: [other for other in moving if parents[other] == body] for body in moving}
    points: list[Keypoint] = []
    own: dict[int, int] = {}
    groups = 0
    for body in moving:
        above = parents[body]
        group = points[own[above]].group if above in own else 0
        if above in own and group == 0 and len(children[above]) > 1:
            groups += 1
            group = groups
        link, name = place[body], model.body(body).name or f"body {body}"
        own[body] = len(points)
        points.append(Keypoint(name=name, link=link, parent=own.get(above, -1), group=group))
        for site in range(model.nsite) if not children[body] else ():
            if model.site_bodyid[site] == body:
                at = tuple(model.site_pos[site].tolist())
                end = model.site(site).name or f"site {site}"
                points.append(Keypoint(name=end, link=link, offset=at, parent=own[body], group=group))
    return tuple(points)


def _ancestors(parents: list[int], body: int) -> set[int]:
    found = set()
    while body:
        found.add(body)
        body = parents[body]
    return found


def _below(parents: list[int], roots: list[int]) -> set[int]:
    """Return these bodies and all that hang on them."""
    found = set(roots)
    for body, parent in enumerate(parents):
        if body and parent in found:
            found.add(body)
    return found
