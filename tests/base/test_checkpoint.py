import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from worldenv.base import checkpoint
from worldenv.base.checkpoint import Expected, check_tensors, has_sums, load_module, load_tensors, save_tensors


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


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path, full_disk: Any) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(3)})
    with full_disk(10_000), pytest.raises(OSError, match=r"x\.safetensors: could not be written .*; is the disk full"):
        save_tensors(path, {"a": torch.zeros(30_000)})
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert torch.equal(load_tensors(path)[0]["a"], torch.ones(3))


def test_loading_is_strict_and_names_what_does_not_fit() -> None:
    module = nn.Linear(2, 3)
    with pytest.raises(
        ValueError,
        match=r"here does not fit.*missing bias; unexpected extra; wrong shape weight: \(3, 3\) for \(3, 2\)",
    ):
        load_module(module, {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}, where="here")
    load_module(module, {"weight": torch.zeros(3, 2), "bias": torch.ones(3)}, where="here")
    assert module.bias.tolist() == [1, 1, 1]


def test_tensors_are_what_is_expected() -> None:
    expected: dict[str, Expected] = {"a": (torch.float32, ("N", 2)), "b": (torch.int64, ("N",))}
    good = {"a": torch.zeros(3, 2), "b": torch.zeros(3, dtype=torch.long)}
    check_tensors(good, expected, where="here", N=3)
    for wrong, message in (
        ({"a": torch.zeros(3, 2)}, "here: b missing"),
        ({**good, "c": torch.zeros(1)}, "here: c unknown"),
        (
            {**good, "b": torch.zeros(2, dtype=torch.long)},
            r"here: b is torch.int64 \(2,\), expected torch.int64 \(3,\)",
        ),
        ({**good, "a": torch.zeros(3, 2, 1)}, r"here: a is .*\(3, 2, 1\), expected torch.float32 \(N, 2\)"),
        ({**good, "a": torch.zeros(3, 2).double()}, r"here: a is torch.float64 \(3, 2\), expected torch.float32"),
        ({**good, "a": torch.tensor([[0, 0], [0, torch.nan], [0, 0]])}, "here: a not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            check_tensors(wrong, expected, where="here")


def test_tensors_that_are_not_as_written_are_named(tmp_path: Path) -> None:
    """Also those whose values are good: the last bit of a mantissa."""
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.randn(3).bfloat16(), "b": torch.tensor(True), "z": torch.randn(100)})
    assert has_sums(path)
    data = bytearray(path.read_bytes())
    data[-4] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.safetensors: \w not as written"):
        load_tensors(path)


def test_files_of_earlier_versions_open(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, header={"step": 1}, sums=False)
    assert not has_sums(path)
    tensors, header = load_tensors(path)
    assert header == {"step": 1}
    assert torch.equal(tensors["a"], torch.ones(2))


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library opens it a second time for the tensors, which then would not be those that the header tells of."""
    path, opened = tmp_path / "state.safetensors", checkpoint.parse_json
    save_tensors(path, {"a": torch.zeros(3)}, header={"step": 1})

    def replaced(text: str) -> Any:
        if json.loads(text)["step"] == 1:
            save_tensors(path, {"a": torch.ones(3)}, header={"step": 2})
        return opened(text)

    monkeypatch.setattr(checkpoint, "parse_json", replaced)
    tensors, header = load_tensors(path)
    assert (header["step"], tensors["a"].tolist()) == (2, [1, 1, 1])
