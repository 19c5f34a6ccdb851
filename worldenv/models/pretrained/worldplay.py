"""WorldPlay-5B (WAN variant): its configuration and its tensors' names, both ways.

The released transformer is a ``DiTConfig``; what differs is how tensors are named and laid out. A ``Slot`` says where a
released tensor lives in ours: which rows of which parameter, and whether the channels of each head are reordered (ours
are component-major, see ``rope``; the release interleaves them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...base.checkpoint import stream_tensors, tensor_shapes
from ..dit import WorldDiT
from ..types import DiTConfig

WORLDPLAY_5B = DiTConfig(
    latent_channels=48,
    patch=2,
    width=3072,
    num_layers=30,
    num_heads=24,
    ffn_dim=14336,
    freq_dim=256,
    text_dim=4096,
    position_embedding=False,
    causal_context=False,
)
"""The released sizes: 889 tensors, 5,293,225,152 parameters."""

_FIXED: Mapping[str, Any] = {
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "pos_embed_seq_len": None,
}


def config_from_diffusers(values: Mapping[str, Any], *, where: str = "config.json") -> DiTConfig:
    """Read a released transformer configuration (diffusers' names).

    Raises:
        ValueError: if it is another architecture; the message lists what does not fit.
    """
    other = {key: want for key, want in _FIXED.items() if values.get(key, want) != want}
    wrong = [f"{key}={values[key]!r}, expected {want!r}" for key, want in other.items()]
    needed = (
        "num_attention_heads",
        "attention_head_dim",
        "in_channels",
        "out_channels",
        "text_dim",
        "freq_dim",
        "ffn_dim",
        "num_layers",
        "patch_size",
    )
    wrong += [f"{key} is missing" for key in needed if key not in values]
    if not wrong:
        time, *patch = values["patch_size"]
        if time != 1 or patch[0] != patch[1]:
            wrong.append(f"patch_size={values['patch_size']}, expected [1, p, p]")
        if values["in_channels"] != values["out_channels"]:
            wrong.append(f"in_channels={values['in_channels']} and out_channels={values['out_channels']} differ")
    if wrong:
        raise ValueError(f"{where}: not the WAN variant of WorldPlay: {'; '.join(wrong)}")
    return DiTConfig(
        latent_channels=values["in_channels"],
        patch=values["patch_size"][1],
        width=values["num_attention_heads"] * values["attention_head_dim"],
        num_layers=values["num_layers"],
        num_heads=values["num_attention_heads"],
        ffn_dim=values["ffn_dim"],
        freq_dim=values["freq_dim"],
        text_dim=values["text_dim"],
        position_embedding=False,
        causal_context=False,
    )


@dataclass(frozen=True)
class Slot:
    """Where a released tensor lives in our transformer."""

    ours: str
    """Name of our parameter."""
    shape: tuple[int, ...]
    """Shape of the released tensor."""
    rows: tuple[int, int] | None = None
    """The rows of our parameter that it fills; None is all."""
    order: Tensor | None = None
    """Released index of each of our channels, where heads are reordered."""
    axis: int = 0
    """The axis that ``order`` permutes."""
    is_patch: bool = False
    """Whether it is the patch convolution, which is a linear layer here."""

    def to_ours(self, tensor: Tensor) -> Tensor:
        """Bring a released tensor into our layout."""
        if self.is_patch:
            return tensor[:, :, 0].permute(0, 2, 3, 1).flatten(1)
        if self.order is not None:
            return tensor.index_select(self.axis, self.order.to(tensor.device))
        return tensor[0] if len(self.shape) == 3 else tensor

    def to_released(self, tensor: Tensor) -> Tensor:
        """Undo ``to_ours``."""
        if self.is_patch:
            width, channels, _, patch, _ = self.shape
            return tensor.view(width, patch, patch, channels).permute(0, 3, 1, 2)[:, :, None].contiguous()
        if self.order is not None:
            return tensor.index_select(self.axis, self.order.argsort().to(tensor.device))
        return tensor.view(self.shape)


def component_order(num_heads: int, head_dim: int) -> Tensor:
    """Return the released index of each of our channels: ours go quarter by quarter, the release in groups of four."""
    head = torch.arange(head_dim).view(-1, 4).T.flatten()
    return (torch.arange(num_heads)[:, None] * head_dim + head).flatten()


def released_slots(config: DiTConfig) -> dict[str, Slot]:
    """Map every released tensor name to its place in our transformer."""
    width, patch_dim = config.width, config.latent_channels * config.patch**2
    patch = (width, config.latent_channels, 1, config.patch, config.patch)
    slots = {
        "patch_embedding.weight": Slot("patch_embedding.weight", patch, is_patch=True),
        "patch_embedding.bias": Slot("patch_embedding.bias", (width,)),
        "scale_shift_table": Slot("scale_shift_table", (1, 2, width)),
        **_linear("proj_out", "proj_out", patch_dim, width),
        **_linear("condition_embedder.time_proj", "time_proj", 6 * width, width),
    }
    for name, inputs in (("time", config.freq_dim), ("action", config.freq_dim), ("text", config.text_dim)):
        theirs = f"condition_embedder.{name}_embedder"
        slots |= _linear(f"{theirs}.linear_1", f"{name}_embedder.linear_1", width, inputs)
        slots |= _linear(f"{theirs}.linear_2", f"{name}_embedder.linear_2", width, width)
    for layer in range(config.num_layers):
        slots |= _block_slots(config, f"blocks.{layer}")
    return slots


def _block_slots(config: DiTConfig, block: str) -> dict[str, Slot]:
    width, order = config.width, component_order(config.num_heads, config.head_dim)
    slots = {f"{block}.scale_shift_table": Slot(f"{block}.scale_shift_table", (1, 6, width))}
    for i, name in enumerate("qkv"):
        rows = (i * width, (i + 1) * width)
        slots |= _linear(f"{block}.attn1.to_{name}", f"{block}.attn.to_qkv", width, width, rows=rows, order=order)
    for name in ("norm_q", "norm_k"):
        slots[f"{block}.attn1.{name}.weight"] = Slot(f"{block}.attn.{name}.weight", (width,), order=order)
        slots[f"{block}.attn2.{name}.weight"] = Slot(f"{block}.text.{name}.weight", (width,))
    for name in ("to_out", "to_out_prope"):
        theirs, ours = f"{block}.attn1.{name}.0", f"{block}.attn.{name}"
        slots[f"{theirs}.weight"] = Slot(f"{ours}.weight", (width, width), order=order, axis=1)
        slots[f"{theirs}.bias"] = Slot(f"{ours}.bias", (width,))
    slots |= _linear(f"{block}.attn2.to_q", f"{block}.text.to_q", width, width)
    slots |= _linear(f"{block}.attn2.to_k", f"{block}.text.to_kv", width, width, rows=(0, width))
    slots |= _linear(f"{block}.attn2.to_v", f"{block}.text.to_kv", width, width, rows=(width, 2 * width))
    slots |= _linear(f"{block}.attn2.to_out.0", f"{block}.text.to_out", width, width)
    slots |= {f"{block}.norm2.{part}": Slot(f"{block}.text.norm.{part}", (width,)) for part in ("weight", "bias")}
    slots |= _linear(f"{block}.ffn.net.0.proj", f"{block}.ffn.linear_1", config.ffn_dim, width)
    return slots | _linear(f"{block}.ffn.net.2", f"{block}.ffn.linear_2", width, config.ffn_dim)


def _linear(
    theirs: str,
    ours: str,
    outputs: int,
    inputs: int,
    *,
    rows: tuple[int, int] | None = None,
    order: Tensor | None = None,
) -> dict[str, Slot]:
    return {
        f"{theirs}.weight": Slot(f"{ours}.weight", (outputs, inputs), rows, order),
        f"{theirs}.bias": Slot(f"{ours}.bias", (outputs,), rows, order),
    }


@torch.no_grad()
def load_transformer(
    config: DiTConfig, files: Sequence[Path], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> WorldDiT:
    """Load released weights, tensor by tensor, straight to a device and dtype; nothing is held twice.

    ``numerics="clean"`` keeps the small tensors that make embeddings and modulation in float32; ``"reference"`` rounds
    them like the rest, as the release does.

    Args:
        config: sizes, from ``config_from_diffusers``.
        files: the safetensors shards, or the distilled ``model.pt``.
        device: where the weights go.
        dtype: precision of the weights.

    Raises:
        ValueError: if the files are unreadable or do not hold exactly this transformer; the message lists what does
            not fit.
    """
    slots = released_slots(config)
    _check_names({k: v for file in files for k, v in _shapes(file).items()}, slots, where=_names(files))
    with torch.device("meta"):
        dit = WorldDiT(config)
    dit = dit.to(dtype)
    if config.numerics == "clean":
        _keep_float(dit)
    dit.to_empty(device=device)
    parameters = dict(dit.named_parameters())
    for file in files:
        for name, tensor in _tensors(file, device):
            slot = slots[name]
            target = parameters[slot.ours]
            (target if slot.rows is None else target[slice(*slot.rows)]).copy_(slot.to_ours(tensor))
    return dit.eval().requires_grad_(False)


def _keep_float(dit: WorldDiT) -> None:
    for module in (dit.time_embedder, dit.action_embedder, dit.time_proj):
        if module is not None:
            module.float()
    for name, parameter in dit.named_parameters():
        if name.endswith("scale_shift_table"):
            parameter.data = parameter.data.float()


def released_state(dit: WorldDiT) -> dict[str, Tensor]:
    """Return our transformer's weights under the release's names and layout."""
    parameters = dict(dit.named_parameters())
    state = {}
    for name, slot in released_slots(dit.config).items():
        ours = parameters[slot.ours].detach()
        state[name] = slot.to_released(ours if slot.rows is None else ours[slice(*slot.rows)])
    return state


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    if file.suffix != ".pt":
        return tensor_shapes(file)
    return {name: tuple(tensor.shape) for name, tensor in _distilled(file, "cpu").items()}


def _tensors(file: Path, device: torch.device | str) -> Iterator[tuple[str, Tensor]]:
    if file.suffix != ".pt":
        return stream_tensors(file, device)
    return iter(_distilled(file, device).items())


def _distilled(file: Path, device: torch.device | str) -> dict[str, Tensor]:
    """Read the distilled ``model.pt``, which holds plain tensors under ``generator``; pickled code is refused."""
    try:
        loaded = torch.load(file, map_location=device, weights_only=True, mmap=True)
        weights: dict[str, Tensor] = loaded["generator"]
    except Exception as error:  # torch raises whatever the archive provokes
        raise ValueError(f"{file}: not the distilled checkpoint, tensors under 'generator' ({error})") from None
    return {k.removeprefix("model.").removeprefix("_fsdp_wrapped_module."): v for k, v in weights.items()}


def _check_names(found: Mapping[str, tuple[int, ...]], slots: Mapping[str, Slot], *, where: str) -> None:
    if any("double_blocks" in name for name in found):
        raise ValueError(f"{where}: these are weights of the HunyuanVideo variant; only the WAN variant can be stepped")
    missing, extra = sorted(set(slots) - set(found)), sorted(set(found) - set(slots))
    shapes = [f"{n}: {found[n]} for {s.shape}" for n, s in slots.items() if n in found and found[n] != s.shape]
    if missing or extra or shapes:
        raise ValueError(
            f"{where} is not this transformer: {_some('missing', missing)}; {_some('unexpected', extra)}; "
            f"{_some('of another shape', shapes)}"
        )


def _some(what: str, items: Sequence[str]) -> str:
    more = f" and {len(items) - 8} more" if len(items) > 8 else ""
    return f"{len(items)} {what}" + (f" ({', '.join(items[:8])}{more})" if items else "")


def _names(files: Sequence[Path]) -> str:
    return str(files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
