from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from worldenv.base import checkpoint
from worldenv.base.checkpoint import EMA, file_sha256, load_module, load_tensors, save_tensors, save_text


def test_tensors_and_header_survive(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4).T, "b": torch.tensor(5), "c": torch.randn(2).bfloat16(), "d": torch.randn(4)[::2]}
    header = {"step": 3, "nested": {"x": [1, 2.5, "y"]}}
    save_tensors(tmp_path / "deep" / "x.safetensors", tensors, header=header)
    loaded, found = load_tensors(tmp_path / "deep" / "x.safetensors")
    assert found == header
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[k], tensors[k]) and loaded[k].dtype == tensors[k].dtype for k in tensors)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_truncated_files_are_named(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.randn(100)})
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=r"x\.safetensors: not a readable"):
        load_tensors(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.safetensors: no such file"):
        load_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("part", ["save_file", "replace"])
def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(3)})

    def full(*arguments: Any, **options: Any) -> None:
        if part == "save_file":
            Path(arguments[1]).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint if part == "save_file" else checkpoint.os, part, full)
    with pytest.raises(OSError, match="disk full"):
        save_tensors(path, {"a": torch.zeros(3)})
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert torch.equal(load_tensors(path)[0]["a"], torch.ones(3))


def test_text_takes_the_place_of_the_old_only_when_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "x.toml"
    save_text(path, "name = 'é'\n")
    assert path.read_bytes() == "name = 'é'\n".encode()
    write = Path.write_text

    def killed(self: Path, text: str, **options: Any) -> None:
        write(self, text[:4], **options)
        raise SystemExit

    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(SystemExit):
        save_text(path, "name = 'other'\n")
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == "name = 'é'\n"


def test_loading_is_strict_and_names_what_does_not_fit() -> None:
    module = nn.Linear(2, 3)
    with pytest.raises(
        ValueError,
        match=r"here does not fit.*missing bias; unexpected extra; wrong shape weight: \(3, 3\) for \(3, 2\)",
    ):
        load_module(module, {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}, where="here")
    load_module(module, {"weight": torch.zeros(3, 2), "bias": torch.ones(3)}, where="here")
    assert module.bias.tolist() == [1, 1, 1]


def test_hashes_depend_on_names_and_contents_not_on_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    before = file_sha256([a, b])
    assert before == file_sha256([b, a])
    b.write_text("3")
    assert file_sha256([a, b]) != before


def test_ema_warms_up_then_averages() -> None:
    module = nn.Linear(1, 1, bias=False).requires_grad_(False)
    module.weight.fill_(0.0)
    ema = EMA(module, decay=0.9)
    module.weight.fill_(1.0)
    expected = 0.0
    for update in range(1, 200):
        ema.update(module)
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay)
        assert float(ema.shadow["weight"]) == pytest.approx(expected, rel=1e-4)
    module.weight.fill_(7.0)
    ema.copy_to(module)
    assert float(module.weight) == pytest.approx(expected, rel=1e-4)


def test_ema_keeps_float32_under_bfloat16_weights() -> None:
    module = nn.Linear(1, 1, bias=False).bfloat16().requires_grad_(False)
    module.weight.fill_(1.0)
    ema = EMA(module, decay=0.999)
    ema.num_updates = 10**6
    module.weight.fill_(1.5)
    ema.update(module)
    assert float(ema.shadow["weight"]) == pytest.approx(1.0005, abs=1e-6)
    ema.copy_to(module)
    assert module.weight.dtype == torch.bfloat16
