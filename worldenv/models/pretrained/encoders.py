"""Frozen image encoders from transformers, prepared as VBench prepares their input: DINO and CLIP.

Weights come from a local folder of safetensors; nothing is downloaded, and a tensor that is missing is an error, where
transformers alone would put random numbers in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Encoder = Callable[[Tensor], Tensor]
"""Frames (N, H, W, 3) uint8 to features (N, D)."""
SIZE = 224
DINO_VITB16: Mapping[str, int] = {"hidden_size": 768, "patch_size": 16, "num_hidden_layers": 12}
"""What the configuration must say to be DINO's ViT-B/16."""
CLIP_VITB32: Mapping[str, int] = {
    "hidden_size": 768,
    "patch_size": 32,
    "num_hidden_layers": 12,
    "projection_dim": 512,
}
"""What the configuration must say to be CLIP's ViT-B/32."""
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load_dino(
    folder: Path, *, device: torch.device | str = "cpu", expected: Mapping[str, int] = DINO_VITB16
) -> Encoder:
    """Load DINO; features are the CLS token after the last norm.

    Frames are resized to a shorter side of 224, bilinear without antialiasing, and not cropped; the position embedding
    is interpolated to them (transformers leaves out the 0.1 patches that torch hub's DINO adds to its scale).

    Raises:
        ImportError: if transformers is not installed.
        ValueError: if the folder holds another model, or tensors are missing.
    """
    from transformers import ViTModel

    model = _load(ViTModel, folder, expected, add_pooling_layer=False).to(device)

    @torch.no_grad()
    def encode(frames: Tensor) -> Tensor:
        pixels = _normalise(resize_shorter(frames.to(device), SIZE, mode="bilinear"), *_IMAGENET)
        features: Tensor = model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        return features

    return encode


def load_clip(
    folder: Path, *, device: torch.device | str = "cpu", expected: Mapping[str, int] = CLIP_VITB32
) -> Encoder:
    """Load CLIP's image half; features are the projected image embedding.

    Frames are resized to a shorter side of 224, bicubic without antialiasing, and cropped to the middle square.

    Raises:
        ImportError: if transformers is not installed.
        ValueError: if the folder holds another model, or tensors are missing.
    """
    from transformers import CLIPModel

    model = _load(CLIPModel, folder, expected)
    vision, projection = model.vision_model.to(device), model.visual_projection.to(device)

    @torch.no_grad()
    def encode(frames: Tensor) -> Tensor:
        pixels = resize_shorter(frames.to(device), SIZE, mode="bicubic")
        top, left = (round((length - SIZE) / 2) for length in pixels.shape[-2:])
        pixels = _normalise(pixels[..., top : top + SIZE, left : left + SIZE], *_CLIP)
        features: Tensor = projection(vision(pixel_values=pixels).pooler_output)
        return features

    return encode


def resize_shorter(
    frames: Tensor,  # (N, H, W, 3) uint8
    size: int,
    *,
    mode: str,
) -> Tensor:
    """Resize to a shorter side of ``size`` as torchvision does a float tensor; (N, 3, H', W'), about 0..255."""
    height, width = frames.shape[1:3]
    shorter = min(height, width)
    target = (int(size * height / shorter), int(size * width / shorter))
    return F.interpolate(frames.movedim(-1, 1).float(), size=target, mode=mode, align_corners=False, antialias=False)


def _normalise(
    pixels: Tensor,  # (N, 3, H, W) in 0..255
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Tensor:
    return (pixels / 255 - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)


def _load(kind: Any, folder: Path, expected: Mapping[str, int], **options: Any) -> Any:
    model, info = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
    )
    config = getattr(model.config, "vision_config", model.config)
    found = {key: getattr(config, key, None) for key in expected}
    if found != dict(expected):
        raise ValueError(f"{folder}: its configuration says {found}, expected {dict(expected)}; this is another model")
    wrong = [*info["missing_keys"], *info["mismatched_keys"]]
    if wrong:
        raise ValueError(f"{folder}: tensors missing or of another shape: {wrong[:4]}; copy the folder again")
    return model.eval().requires_grad_(False)
