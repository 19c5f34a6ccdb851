"""Which metrics need weights, which of them this machine can compute, and computing them without ever failing."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..image import Array
from .distribution import fid, fvd
from .lpips import FrameLPIPS
from .vbench import background_consistency, imaging_quality, subject_consistency

Score = Callable[[Tensor, Any], Any]
"""Frames and true frames (B, T, H, W, 3) uint8 to (B,), or to one number."""


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A file that a metric reads."""

    name: str
    """Path under the weights folder."""
    source: str
    """Where to get it."""
    sha256: str | None = None
    """What it must hash to; None where no checksum is published: then only the architecture is checked."""


@dataclass(frozen=True, kw_only=True)
class LearnedMetric:
    """A metric that needs weights."""

    per: Literal["trajectory", "arm"]
    """One value a trajectory, or one for all trajectories of an arm together."""
    files: tuple[WeightFile, ...] = ()
    load: Callable[..., Score] | None = None
    """Takes the files' paths in order and ``device``; None if nothing can load them."""
    library: str = ""
    """Import name of what it needs besides our own dependencies."""
    install: str = ""
    """The requirement that installs it."""
    needs_truth: bool = False
    never: str = ""
    """Why it cannot be computed, whatever is there."""


@dataclass(frozen=True, kw_only=True)
class UsableMetric:
    """A metric with its weights loaded."""

    metric: LearnedMetric
    score: Score
    sha256: Mapping[str, str]
    """What each file that was read hashes to, for the report."""


_HUB = "https://huggingface.co"
METRICS: Mapping[str, LearnedMetric] = {
    "lpips": LearnedMetric(
        per="trajectory",
        needs_truth=True,
        load=FrameLPIPS,
        files=(
            WeightFile(
                name="alexnet-owt-7be5be79.pth",
                source="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            ),
            WeightFile(
                name="alex.pth",
                source="lpips/weights/v0.1/alex.pth in the wheel lpips 0.1.4",
                sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
            ),
        ),
    ),
    "imaging_quality": LearnedMetric(
        per="trajectory",
        load=imaging_quality,
        library="pyiqa",
        install="pyiqa",
        files=(
            WeightFile(
                name="musiq_spaq_ckpt-358bb6af.pth",
                source=f"{_HUB}/chaofengc/IQA-PyTorch-Weights/resolve/main/musiq_spaq_ckpt-358bb6af.pth",
                sha256="358bb6af275e28ea56821d44fb55c6cb83645db11f394d3ad65b2d149965ab50",
            ),
        ),
    ),
    "subject_consistency": LearnedMetric(
        per="trajectory",
        load=subject_consistency,
        library="transformers",
        install="worldenv[worldplay]",
        files=tuple(
            WeightFile(name=f"dino-vitb16/{name}", source=f"{_HUB}/facebook/dino-vitb16")
            for name in ("config.json", "model.safetensors")
        ),
    ),
    "background_consistency": LearnedMetric(
        per="trajectory",
        load=background_consistency,
        library="transformers",
        install="worldenv[worldplay]",
        files=tuple(
            WeightFile(name=f"clip-vit-base-patch32/{name}", source=f"{_HUB}/openai/clip-vit-base-patch32")
            for name in ("config.json", "model.safetensors")
        ),
    ),
    "motion_smoothness": LearnedMetric(
        per="trajectory",
        never="amt-s.pth needs full unpickling (VBench's pull request 115), and the one package found with AMT-S, "
        "vbench 0.1.5, pins transformers 4.33.2 and numpy below 2; run VBench's motion_smoothness on the clips instead",
    ),
    "fid": LearnedMetric(
        per="arm",
        needs_truth=True,
        load=fid,
        library="torch_fidelity",
        install="torch-fidelity",
        files=(
            WeightFile(
                name="weights-inception-2015-12-05-6726825d.pth",
                source="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                "weights-inception-2015-12-05-6726825d.pth",
                sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            ),
        ),
    ),
    "fvd": LearnedMetric(
        per="arm",
        needs_truth=True,
        load=fvd,
        library="cdfvd",
        install="cd-fvd",
        files=(
            WeightFile(
                name="i3d_pretrained_400.pt",
                source="https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt",
            ),
        ),
    ),
    "fid_vid": LearnedMetric(
        per="arm",
        never="no package was found with the 3-D ResNet-50 of DisCo's FID-VID (resnet-50-kinetics.pth); run DisCo's "
        "tool/metrics/metric_center.py on the clips instead",
    ),
}


def available(
    folder: Path | None,
    *,
    metrics: Mapping[str, LearnedMetric] = METRICS,
    device: torch.device | str = "cpu",
) -> tuple[dict[str, UsableMetric], dict[str, str]]:
    """Load what the weights folder (None: there is none) allows; return usable metrics, and why each other is not.

    Raises:
        ValueError: if the folder does not exist.
    """
    if folder is not None and not folder.is_dir():
        raise ValueError(f"weights folder {folder} does not exist; pass the folder that holds the files")
    usable: dict[str, UsableMetric] = {}
    skipped: dict[str, str] = {}
    for name, metric in metrics.items():
        loaded = _load(metric, folder, device)
        if isinstance(loaded, UsableMetric):
            usable[name] = loaded
        else:
            skipped[name] = loaded
    return usable, skipped


def _load(metric: LearnedMetric, folder: Path | None, device: torch.device | str) -> UsableMetric | str:
    """Load a metric, or say why not."""
    reason = metric.never or _absent(metric, folder)
    if reason:
        return reason
    assert folder is not None
    assert metric.load is not None
    hashes: dict[str, str] = {}
    for file in metric.files:
        with (folder / file.name).open("rb") as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
        if file.sha256 not in (None, hashes[file.name]):
            return (
                f"{file.name} has sha256 {hashes[file.name]}, expected {file.sha256}; it is another file or damaged, "
                f"get it from {file.source}"
            )
    try:
        score = metric.load(*(folder / file.name for file in metric.files), device=device)
    except Exception as error:
        return f"could not be loaded: {_sentence(error)}"
    return UsableMetric(metric=metric, score=score, sha256=hashes)


def _absent(metric: LearnedMetric, folder: Path | None) -> str:
    """Name the library and the files that are not there."""
    wanted = []
    if metric.library and importlib.util.find_spec(metric.library) is None:
        wanted.append(f"the library {metric.library} (pip install '{metric.install}')")
    for file in metric.files:
        if folder is None or not (folder / file.name).is_file():
            wanted.append(f"{file.name} ({_expected(file)}, from {file.source})")
    where = "a weights folder, and none was given" if folder is None else f"the weights folder {folder}"
    return f"needs {' and '.join(wanted)}; files belong into {where}" if wanted else ""


def _expected(file: WeightFile) -> str:
    return f"sha256 {file.sha256}" if file.sha256 else "no published sha256"


def score(
    usable: Mapping[str, UsableMetric],
    frames: Any,  # (B, T, H, W, 3) uint8
    truth: Any = None,  # (B, T, H, W, 3) uint8
) -> tuple[dict[str, Array], dict[str, float], dict[str, str]]:
    """Compute every usable metric of an arm: values by trajectory (B,), values of the arm, and why others are not.

    Raises:
        ValueError: if frames are not uint8 or not of this shape; whatever a metric raises is a reason, not an error.
    """
    video, true = (None if x is None else _video(x) for x in (frames, truth))
    assert video is not None
    trajectories: dict[str, Array] = {}
    arms: dict[str, float] = {}
    skipped: dict[str, str] = {}
    for name, entry in usable.items():
        if entry.metric.needs_truth and true is None:
            skipped[name] = "compares with the true frames, and this arm has none"
            continue
        try:
            values = np.asarray(entry.score(video, true), np.float64)
            wanted = video.shape[:1] if entry.metric.per == "trajectory" else ()
            if values.shape != wanted or not np.isfinite(values).all():
                raise ValueError(f"gave {values} in place of {tuple(wanted)} finite numbers")
            if entry.metric.per == "trajectory":
                trajectories[name] = values
            else:
                arms[name] = float(values)
        except Exception as error:
            skipped[name] = _sentence(error)
    return trajectories, arms, skipped


def _video(frames: Any) -> Tensor:
    tensor = torch.as_tensor(frames)
    if tensor.dtype != torch.uint8 or tensor.ndim != 5 or tensor.shape[-1] != 3:
        raise ValueError(f"frames are {tensor.dtype} {tuple(tensor.shape)}, expected uint8 (B, T, H, W, 3)")
    return tensor


def _sentence(error: Exception) -> str:
    """Return an error as one line; a ValueError is written as a sentence already."""
    return " ".join((str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}").split())
