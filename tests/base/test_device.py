import warnings
from pathlib import Path

import pytest
import torch

from worldenv.base import device
from worldenv.base.device import resolve_device, threads_for, untouched_zeros


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_zeros_take_memory_only_where_they_are_written() -> None:
    before = resident()
    zeros = untouched_zeros((64, 2**20), dtype=torch.float32)
    assert resident() - before < 2**24, "a quarter of a gigabyte was asked for"
    zeros[3] = 1
    assert 2**21 < resident() - before < 2**25
    assert float(zeros[2:5].sum()) == 2**20
    assert untouched_zeros((0, 3), dtype=torch.bfloat16).shape == (0, 3)


def test_unknown_devices_are_refused_with_a_list() -> None:
    with pytest.raises(ValueError, match="choose auto, cpu, cuda"):
        resolve_device("toaster")


@pytest.mark.parametrize(
    ("count", "name", "said"),
    [
        (0, "cuda", "finds no GPU here; pass 'auto' or 'cpu'"),
        (2, "cuda:2", "there are 2 GPUs; choose one of cuda:0 to"),
    ],
)
def test_gpus_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch, count: int, name: str, said: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ValueError, match=said):
        resolve_device(name)
    assert resolve_device("cpu") == torch.device("cpu")
    assert not count or resolve_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("policy", "size", "expected"),
    [("passive", 9, 1), ("PASSIVE", 9, 1), ("passive", 10, 2), ("active", 9, 2), ("", 9, 2)],
)
def test_small_things_wake_no_threads(monkeypatch: pytest.MonkeyPatch, policy: str, size: int, expected: int) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    before, counts = torch.get_num_threads(), []
    torch.set_num_threads(2)

    def fail() -> None:
        with threads_for(size, enough=10, device=torch.device("cpu")):
            counts.append(torch.get_num_threads())
            raise KeyError

    try:
        with pytest.raises(KeyError):
            fail()
        assert [*counts, torch.get_num_threads()] == [expected, 2], "as they were, also after an error"
    finally:
        torch.set_num_threads(before)


def test_a_precision_that_crawls_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(device, "default_dtype", lambda _: torch.float32)
    with pytest.warns(UserWarning, match="does not compute in bfloat16"):
        device.warn_if_slow(torch.bfloat16, cpu)
    monkeypatch.setattr(device, "default_dtype", lambda _: torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        device.warn_if_slow(torch.bfloat16, cpu)
        device.warn_if_slow(torch.float32, cpu)
