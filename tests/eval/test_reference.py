import shutil
from pathlib import Path

import pytest
import torch

from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.cli import main
from worldenv.diffusion.schedule import SamplerConfig, inference_sigmas
from worldenv.eval.reference import approximation, fitted_sampler, verify_reference

FIXTURES = Path(__file__).resolve().parents[3] / "shared/fixtures/worldplay_reference"


@pytest.fixture(scope="module")
def golden() -> Path:
    pytest.importorskip("diffusers")
    if not FIXTURES.is_dir():
        pytest.skip(f"{FIXTURES} is not there")
    return FIXTURES


def test_ours_is_the_reference_s_function(golden: Path) -> None:
    rungs = {rung.name: rung for rung in verify_reference(golden)}
    assert {"keys", "prefill K, layer 1", "velocity", "selection", "rollout latents", "decoded frames"} <= set(rungs)
    assert all(rung.passed for rung in rungs.values()), rungs
    assert max(rung.relative for rung in rungs.values()) < 1e-5


@pytest.mark.parametrize(("num_steps", "shift"), [(4, 8.0), (2, 3.0), (30, 5.0), (1, 8.0)])
def test_schedules_are_read_off_their_timesteps(num_steps: int, shift: float) -> None:
    timesteps = 1000 * inference_sigmas(SamplerConfig(num_steps=num_steps, shift=shift))
    torch.testing.assert_close(1000 * inference_sigmas(fitted_sampler(timesteps.tolist())), timesteps)


def test_the_approximate_memory_is_exact_while_nothing_was_encoded_twice(golden: Path) -> None:
    """Keys and values of the first chunk are those of its own time; what follows drifts, and is reported."""
    off = approximation(golden)
    assert len(off) == 9
    assert off[0] < 1e-5
    assert off[1] < 1e-4, "in context is the first chunk alone, which saw nothing but itself either way"
    assert max(off[1:]) > 1e-3
    assert all(value < 1.5 for value in off)


def test_a_wrong_tensor_fails_its_rung(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in golden.iterdir():
        shutil.copy(file, tmp_path)
    tensors, _ = load_tensors(tmp_path / "forward.safetensors")
    tensors["forward.velocity"] *= 1.001
    (tmp_path / "forward.safetensors").unlink()
    save_tensors(tmp_path / "forward.safetensors", tensors)
    rungs = verify_reference(tmp_path)
    assert [rung.name for rung in rungs if not rung.passed] == ["velocity"]
    monkeypatch.setattr("sys.argv", ["worldenv", "verify-reference", str(tmp_path)])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert torch.get_num_threads() >= 1
