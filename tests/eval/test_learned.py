"""Metrics that need weights: definitions against transcriptions on random weights, and refusal of unknown weights."""

import hashlib
import importlib
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from worldenv.eval.frechet import frechet_distance
from worldenv.eval.learned import METRICS, LearnedMetric, WeightFile, available, score
from worldenv.eval.learned.distribution import NUM_CLIPS, NUM_FRAMES, Frechet, split_clips, split_frames
from worldenv.eval.learned.lpips import FrameLPIPS
from worldenv.eval.learned.vbench import Consistency, ImagingQuality, consistency
from worldenv.models.pretrained.archive import read_archive

CONVOLUTIONS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def clip(batch: int, frames: int, height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, frames, height, width, 3), dtype=torch.uint8, generator=generator)


def scenes(batch: int, frames: int, height: int, width: int) -> torch.Tensor:
    """Frames of large patches, no two alike, where noise would look the same to an encoder."""
    generator = torch.Generator().manual_seed(0)
    coarse = 255 * torch.rand(batch * frames, 3, 3, 3, generator=generator)
    fine = F.interpolate(coarse, size=(height, width), mode="nearest").movedim(1, -1)
    return fine.to(torch.uint8).unflatten(0, (batch, frames))


def write(path: Path, tensors: Mapping[str, torch.Tensor]) -> WeightFile:
    """Save a state dict; what is returned expects the checksum it has."""
    torch.save(dict(tensors), path)
    return WeightFile(name=path.name, source="this test", sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def alexnet_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {"classifier.6.bias": torch.zeros(1000)}
    for place, (out, into, size) in CONVOLUTIONS.items():
        weight = torch.randn(out, into, size, size, generator=generator) * math.sqrt(2 / (into * size**2))
        tensors[f"features.{place}.weight"] = weight
        tensors[f"features.{place}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return tensors


def head_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        f"lin{i}.model.1.weight": torch.rand(1, out, 1, 1, generator=generator)
        for i, (out, _, _) in enumerate(CONVOLUTIONS.values())
    }


@pytest.fixture(scope="module")
def lpips_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lpips")
    write(folder / "alexnet-owt-7be5be79.pth", alexnet_tensors())
    write(folder / "alex.pth", head_tensors())
    return folder


def trusting(name: str, folder: Path) -> dict[str, LearnedMetric]:
    """The registry's entry with the checksums that the files of a folder have."""
    files = tuple(
        replace(file, sha256=hashlib.sha256((folder / file.name).read_bytes()).hexdigest())
        for file in METRICS[name].files
    )
    return {name: replace(METRICS[name], files=files)}


def transcribed_lpips(a: torch.Tensor, b: torch.Tensor) -> float:
    """Equation 1 of Zhang et al. for two frames (H, W, 3) uint8, in float64."""
    alexnet, heads = alexnet_tensors(), list(head_tensors().values())

    def features(frame: torch.Tensor) -> list[torch.Tensor]:
        x = frame.permute(2, 0, 1)[None].double() / 255 * 2 - 1
        if min(x.shape[-2:]) < 64:
            x = F.interpolate(x, size=[4 * n for n in x.shape[-2:]], mode="bilinear")
        shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]], dtype=torch.float64)
        x = (x - shift[None, :, None, None]) / scale[None, :, None, None]
        found = []
        for place, (_, _, size) in CONVOLUTIONS.items():
            if place in (3, 6):
                x = F.max_pool2d(x, 3, 2)
            weight, bias = (alexnet[f"features.{place}.{n}"].double() for n in ("weight", "bias"))
            x = F.conv2d(x, weight, bias, stride=4 if place == 0 else 1, padding=2 if size > 3 else 1).relu()
            found.append(x[0])
        return found

    total = 0.0
    for x, y, head in zip(features(a), features(b), heads, strict=True):
        difference = x / (x.norm(dim=0) + 1e-10) - y / (y.norm(dim=0) + 1e-10)
        total += float(torch.einsum("chw,c->hw", difference**2, head.double().flatten()).mean())
    return total


@pytest.mark.parametrize("size", [(24, 32), (63, 37), (64, 80)])
def test_lpips_equals_its_definition(lpips_dir: Path, size: tuple[int, int]) -> None:
    usable, skipped = available(lpips_dir, metrics=trusting("lpips", lpips_dir))
    assert not skipped
    a, b = clip(2, 2, *size), clip(2, 2, *size, seed=1)
    b[1] = a[1] // 2 + b[1] // 8
    values, arms, skipped = score(usable, a, b)
    wanted = [np.mean([transcribed_lpips(x, y) for x, y in zip(p, q)]) for p, q in zip(a, b)]
    assert min(wanted) > 0.01
    np.testing.assert_allclose(values["lpips"], wanted, rtol=1e-4)
    assert values["lpips"].dtype == np.float64
    assert not arms
    assert not skipped
    double = usable["lpips"].score
    assert isinstance(double, FrameLPIPS)
    double.network.double()
    np.testing.assert_allclose(double(a, b), wanted, rtol=1e-10)
    np.testing.assert_array_equal(double(a, a), [0, 0])


def test_lpips_names_what_it_read_and_needs_the_truth(lpips_dir: Path) -> None:
    usable, _ = available(lpips_dir, metrics=trusting("lpips", lpips_dir))
    found = {n: hashlib.sha256((lpips_dir / n).read_bytes()).hexdigest() for n in usable["lpips"].sha256}
    assert dict(usable["lpips"].sha256) == found
    assert len(found) == 2
    values, _, skipped = score(usable, clip(1, 1, 16, 16))
    assert not values
    assert "true frames" in skipped["lpips"]
    _, _, skipped = score(usable, clip(1, 1, 16, 16), clip(1, 2, 16, 16))
    assert "shapes differ" in skipped["lpips"]


def test_unknown_weights_are_never_used(lpips_dir: Path) -> None:
    usable, skipped = available(lpips_dir)
    assert not usable
    assert set(skipped) == set(METRICS)
    found = hashlib.sha256((lpips_dir / "alexnet-owt-7be5be79.pth").read_bytes()).hexdigest()
    expected = METRICS["lpips"].files[0].sha256
    assert f"alexnet-owt-7be5be79.pth has sha256 {found}, expected {expected}" in skipped["lpips"]


@pytest.mark.parametrize("folder", [None, "empty"])
def test_reasons_name_file_checksum_and_source(folder: str | None, tmp_path: Path) -> None:
    usable, skipped = available(None if folder is None else tmp_path)
    assert not usable
    assert set(skipped) == {
        "lpips",
        "imaging_quality",
        "subject_consistency",
        "background_consistency",
        "motion_smoothness",
        "fid",
        "fvd",
        "fid_vid",
    }
    for name, metric in METRICS.items():
        assert "\n" not in skipped[name]
        for file in metric.files:
            assert file.name in skipped[name]
            assert file.source in skipped[name]
            assert (file.sha256 or "no published sha256") in skipped[name]
        if metric.library and importlib.util.find_spec(metric.library) is None:
            assert f"pip install '{metric.install}'" in skipped[name]
    assert "unpickling" in skipped["motion_smoothness"]
    assert "DisCo" in skipped["fid_vid"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        available(tmp_path / "nowhere")


def test_published_checksums_are_whole_and_fit_their_names() -> None:
    for file in (f for metric in METRICS.values() for f in metric.files if f.sha256):
        assert len(file.sha256 or "") == 64
        digits = file.name.removesuffix(".pth").split("-")[-1]
        assert file.name == "alex.pth" or (file.sha256 or "").startswith(digits)


def test_files_of_another_architecture_or_kind_are_skipped(lpips_dir: Path, tmp_path: Path) -> None:
    def reason(alexnet: Mapping[str, Any]) -> str:
        write(tmp_path / "alexnet-owt-7be5be79.pth", alexnet)
        write(tmp_path / "alex.pth", head_tensors())
        usable, skipped = available(tmp_path, metrics=trusting("lpips", tmp_path))
        assert not usable
        return skipped["lpips"]

    tensors = alexnet_tensors()
    assert "missing features.3.bias" in reason({k: v for k, v in tensors.items() if k != "features.3.bias"})
    assert "wrong shape features.0.bias" in reason(tensors | {"features.0.bias": torch.zeros(3)})
    assert "expected tensors by name" in reason(tensors | {"epoch": 3})
    assert "cannot be read" in reason(tensors | {"path": Path("x")}), "a pickled object is refused"


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*TorchScript archive")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(ValueError, match="cannot be read"):
        read_archive(tmp_path / "script.pt")


def transcribed_consistency(features: list[list[float]]) -> float:
    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    total = 0.0
    for t in range(1, len(features)):
        total += max(0.0, cosine(features[t - 1], features[t])) + max(0.0, cosine(features[0], features[t]))
    return total / (2 * (len(features) - 1))


def test_consistency_equals_vbenchs_formula() -> None:
    features = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = [transcribed_consistency(row.tolist()) for row in features]
    np.testing.assert_allclose(consistency(features), wanted, rtol=1e-12)
    # One axis, then its opposite: cosines of -1 count as 0.
    flip = torch.tensor([[[1.0, 0], [-1, 0], [1, 0]]])
    np.testing.assert_allclose(consistency(flip), [(0 + 0 + 0 + 1) / 4])
    np.testing.assert_allclose(consistency(features[:, :1].expand(-1, 3, -1)), 1)
    with pytest.raises(ValueError, match="T >= 2"):
        consistency(features[:, :1])


def spread(model: torch.nn.Module) -> None:
    """Give a model weights with which features differ from frame to frame."""
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)


def assert_equal_distance(values: Any, wanted: Any) -> None:
    """Compare what is left to 1: features that are nearly alike would agree whatever was done."""
    left = 1 - np.asarray(wanted)
    assert left.min() > 1e-4
    np.testing.assert_allclose(1 - np.asarray(values), left, rtol=1e-3)


def reference_pixels(frame: torch.Tensor, mode: str, mean: list[float], std: list[float]) -> torch.Tensor:
    """VBench's preparation of a frame (H, W, 3) with a shorter side to 224; (1, 3, H', W')."""
    height, width = frame.shape[:2]
    size = (224, int(224 * width / height)) if height <= width else (int(224 * height / width), 224)
    x = F.interpolate(frame.permute(2, 0, 1)[None].float(), size=size, mode=mode, align_corners=False)
    return torch.stack([(x[0, c] / 255 - mean[c]) / std[c] for c in range(3)])[None]


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (32, 32)])
def test_subject_consistency_is_on_dinos_class_token(tmp_path: Path, size: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    from worldenv.models.pretrained.encoders import load_dino

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "patch_size": 16, "num_hidden_layers": 1}
    config = transformers.ViTConfig(**shape, num_attention_heads=2, intermediate_size=16, image_size=224)
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    spread(model)
    model.save_pretrained(tmp_path)
    frames = scenes(2, 3, *size)
    values = Consistency(load_dino(tmp_path, expected=shape))(frames)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    wanted = []
    with torch.no_grad():
        for row in frames:
            pixels = [reference_pixels(frame, "bilinear", mean, std) for frame in row]
            tokens = [model(p, interpolate_pos_encoding=True).last_hidden_state[0, 0].tolist() for p in pixels]
            wanted.append(transcribed_consistency(tokens))
    assert_equal_distance(values, wanted)


def test_background_consistency_is_on_clips_image_embedding(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from worldenv.models.pretrained.encoders import load_clip

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(
        text_config=sizes | {"vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1},
        vision_config=sizes | {"patch_size": 32, "image_size": 224, "projection_dim": 12},
        projection_dim=12,
    )
    model = transformers.CLIPModel(config).eval()
    spread(model)
    model.save_pretrained(tmp_path)
    frames = scenes(2, 3, 48, 64)
    shape = {"hidden_size": 16, "patch_size": 32, "num_hidden_layers": 1, "projection_dim": 12}
    values = Consistency(load_clip(tmp_path, expected=shape))(frames)
    image_half = transformers.CLIPVisionModelWithProjection.from_pretrained(tmp_path).eval()
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    wanted = []
    with torch.no_grad():
        for row in frames:
            pixels = [reference_pixels(frame, "bicubic", mean, std)[..., 37 : 37 + 224] for frame in row]
            wanted.append(
                transcribed_consistency([image_half(pixel_values=p).image_embeds[0].tolist() for p in pixels])
            )
    assert_equal_distance(values, wanted)


def test_encoders_refuse_other_models_and_missing_tensors(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file, save_file

    from worldenv.models.pretrained.encoders import load_dino

    shape = {"hidden_size": 16, "patch_size": 16, "num_hidden_layers": 1}
    config = transformers.ViTConfig(**shape, num_attention_heads=2, intermediate_size=16, image_size=224)
    folder = tmp_path / "dino-vitb16"
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    metrics = {"subject_consistency": METRICS["subject_consistency"]}
    usable, skipped = available(tmp_path, metrics=metrics)
    assert not usable
    assert "this is another model" in skipped["subject_consistency"]
    tensors = load_file(folder / "model.safetensors")
    dropped = next(name for name in tensors if "layernorm" in name)
    save_file({k: v for k, v in tensors.items() if k != dropped}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"tensors missing.*layernorm"):
        load_dino(folder, expected=shape)


@pytest.mark.parametrize("size", [(48, 64), (600, 301)])
def test_imaging_quality_divides_once_and_shrinks_the_longer_side(size: tuple[int, int]) -> None:
    seen = []

    def model(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels)
        return 100 * pixels.amax((1, 2, 3))[:, None]

    frames = torch.zeros(2, 2, *size, 3, dtype=torch.uint8)
    frames[0, 1], frames[1] = 255, 51
    np.testing.assert_allclose(ImagingQuality(model)(frames), [0.5, 0.2], rtol=1e-6)
    assert seen[0].shape[1:] == ((3, 48, 64) if size == (48, 64) else (3, 512, int(512 / 600 * 301)))


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Packages with the names and signatures of pyiqa, torch-fidelity and cd-fvd, and one number for a network."""
    sources = {
        "pyiqa/archs/musiq_arch.py": """
class MUSIQ(torch.nn.Module):
    def __init__(self, pretrained=True):
        super().__init__()
        assert pretrained is False, "it would download"
        self.scale = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x):
        assert not self.training
        return self.scale * x.mean((1, 2, 3))[:, None]
""",
        "torch_fidelity/feature_extractor_inceptionv3.py": """
class FeatureExtractorInceptionV3(torch.nn.Module):
    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert features_list == ["2048"]
        self.scale = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=False))
    def forward(self, x):
        assert x.dtype == torch.uint8 and x.shape[1] == 3
        return (self.scale * x.float().mean((2, 3)),)
""",
        "cdfvd/third_party/i3d/pytorch_i3d.py": """
class InceptionI3d(torch.nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x):
        assert x.shape[1:] == (3, 16, 224, 224) and x.min() >= -1 and x.max() <= 1 and not self.training
        return self.scale * torch.cat([x.mean((3, 4))[:, 0, :2], x.amin((1, 2, 3, 4))[:, None]], 1)
""",
    }
    for name, source in sources.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True)
        for folder in [path.parent, *path.parent.relative_to(tmp_path / "packages").parents]:
            if str(folder) != ".":
                (tmp_path / "packages" / folder / "__init__.py").touch()
        path.write_text("import torch\n" + source)
    roots = {name.split("/")[0] for name in sources}

    def forget() -> None:
        for module in [m for m in sys.modules if m.split(".")[0] in roots]:
            del sys.modules[module]

    forget()
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    yield
    forget()


@pytest.mark.usefixtures("libraries")
def test_networks_of_other_packages_get_what_they_expect(tmp_path: Path) -> None:
    metrics = {}
    for name in ("imaging_quality", "fid", "fvd"):
        write(tmp_path / METRICS[name].files[0].name, {"scale": torch.full((1,), 10.0)})
        metrics |= trusting(name, tmp_path)
    usable, skipped = available(tmp_path, metrics=metrics)
    assert not skipped
    frames, truth = clip(3, 37, 8, 12), clip(3, 37, 8, 12, seed=1) // 2
    values, arms, skipped = score(usable, frames, truth)
    np.testing.assert_allclose(values["imaging_quality"], frames.double().mean((1, 2, 3, 4)) / 255 / 10, rtol=1e-5)
    assert not arms
    assert f"{3 * 37} pieces, needs {NUM_FRAMES}" in skipped["fid"]
    assert f"{3 * 2} pieces, needs {NUM_CLIPS}" in skipped["fvd"]

    fid, fvd = (usable[name].score for name in ("fid", "fvd"))
    assert isinstance(fid, Frechet)
    assert isinstance(fvd, Frechet)
    fid.least = fvd.least = 2
    _, arms, skipped = score({name: usable[name] for name in ("fid", "fvd")}, frames, truth)
    assert not skipped
    means = [10 * x.flatten(0, 1).double().mean((1, 2)) for x in (frames, truth)]
    assert arms["fid"] == pytest.approx(frechet_distance(*means), rel=1e-4)
    logits = []
    for x in (frames, truth):
        clips = torch.stack([row[start : start + 16] for row in x for start in (0, 16)]).float() / 127.5 - 1
        clips = torch.stack([F.interpolate(c.permute(0, 3, 1, 2), size=(224, 224), mode="bilinear") for c in clips])
        logits.append(10 * torch.cat([clips.mean((3, 4))[:, :2, 0], clips.amin((1, 2, 3, 4))[:, None]], 1))
    assert arms["fvd"] == pytest.approx(frechet_distance(*logits), rel=1e-4)


def test_trajectories_are_cut_into_whole_clips() -> None:
    frames = torch.arange(2 * 40).view(2, 40, 1, 1, 1).expand(2, 40, 1, 1, 3)
    clips = split_clips(frames)[..., 0, 0, 0]
    assert clips.tolist() == [[*range(s, s + 16)] for s in (0, 16, 40, 56)]
    assert len(split_clips(frames[:, :15])) == 0
    assert split_frames(frames)[:, 0, 0, 0].tolist() == [*range(80)]


def test_whatever_a_metric_does_is_a_reason_and_never_an_error(tmp_path: Path) -> None:
    def fail(*paths: Path, device: object) -> Any:
        raise RuntimeError("no\nkernel")

    def give(value: Any, *paths: Path, device: object) -> Any:
        if isinstance(value, Exception):
            return lambda frames, truth: (_ for _ in ()).throw(value)
        return lambda frames, truth: value

    file = write(tmp_path / "w.pth", {"x": torch.zeros(1)})
    made = {
        "broken": fail,
        "raises": partial(give, MemoryError("too large")),
        "nan": partial(give, np.array([1, np.nan])),
        "short": partial(give, np.zeros(3)),
        "good": partial(give, np.array([1, 2])),
    }
    metrics = {name: LearnedMetric(per="trajectory", files=(file,), load=load) for name, load in made.items()}
    metrics["distance"] = LearnedMetric(per="arm", files=(file,), load=partial(give, 3))
    usable, skipped = available(tmp_path, metrics=metrics)
    assert skipped == {"broken": "could not be loaded: RuntimeError: no kernel"}
    values, arms, skipped = score(usable, clip(2, 1, 4, 4).numpy())
    assert {k: v.tolist() for k, v in values.items()} == {"good": [1, 2]}
    assert arms == {"distance": 3.0}
    assert skipped["raises"] == "MemoryError: too large"
    assert set(skipped) == {"raises", "nan", "short"}
    with pytest.raises(ValueError, match="expected uint8"):
        score(usable, torch.zeros(2, 1, 4, 4, 3))
