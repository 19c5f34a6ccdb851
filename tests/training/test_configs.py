"""The committed configurations of the maze world fit the code, and each other."""

from pathlib import Path

import pytest

from worldenv.base.config import load_toml
from worldenv.training.stages import TrainConfig

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "maze"


@pytest.mark.parametrize("name", ["teacher", "consistency_distill", "context_forcing", "rolling"])
def test_distillation_is_configured_for_the_maze(name: str) -> None:
    config = load_toml(TrainConfig, FOLDER / f"{name}.toml")
    assert config.sampler.stochastic == (name != "teacher")
    if config.sampler.stochastic:
        assert config.sampler.num_steps == 4
        assert config.consistency.num_levels % config.sampler.num_steps == 0
    assert config.sampler.rolling == (name == "rolling")
    if name in ("context_forcing", "rolling"):
        assert (config.optim.beta1, config.optim.beta2) == (0.0, 0.999)
        assert config.optim.lr == config.optim.lr_final
        assert config.context_forcing.history_steps <= config.optim.steps
