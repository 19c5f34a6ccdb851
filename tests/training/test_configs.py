"""The committed recipes fit the code, themselves, and the script that runs them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from worldenv.base.config import load_toml
from worldenv.data.record import RecordConfig
from worldenv.models.heads.display import SCALE
from worldenv.models.types import DiTConfig
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.registry import STAGES

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = {"maze": "runs", "maze128": "runs/maze128"}
TRANSFORMER = (
    "bidirectional",
    "causal",
    "memory",
    "memory_final",
    "memory_cached",
    "memory_more",
    "teacher",
    "context_forcing",
)


DISTILLED = ("teacher", "consistency_distill", "context_forcing", "rolling")
ONLY_OF_MAZE = ("consistency_distill", "memory_fine", "memory_render", "pose", "display", "display_sharp")
"""Tried and not packaged; the pose network, which measures larger frames too; and pictures four times as large."""
RECORDINGS = ("record_plain", "record_classic", "record_large", "heldout_plain", "heldout_classic")
"""Of mazes with goal objects, which no recipe trains on yet."""
LARGE = ("record_display", "heldout_display")
"""What the display decoder learns from."""


def test_both_recipes_have_the_same_stages() -> None:
    first, second = ({path.stem for path in (CONFIGS / recipe).glob("*.toml")} for recipe in RECIPES)
    assert first - second == {*ONLY_OF_MAZE, *RECORDINGS, *LARGE}
    assert not second - first


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(CONFIGS.glob("maze*/*.toml")) if path.stem in DISTILLED],
    ids=lambda p: f"{p.parent.name}-{p.stem}",
)
def test_distillation_is_configured(path: Path) -> None:
    name = path.stem
    config = load_toml(TrainConfig, path)
    assert config.sampler.stochastic == (name != "teacher")
    if config.sampler.stochastic:
        assert config.sampler.num_steps == 4
        assert config.consistency.num_levels % config.sampler.num_steps == 0
    assert config.sampler.rolling == (name == "rolling")
    if name in ("context_forcing", "rolling"):
        assert (config.optim.beta1, config.optim.beta2) == (0.0, 0.999)
        assert config.optim.lr == config.optim.lr_final
        assert config.context_forcing.history_steps <= config.optim.steps


@pytest.mark.parametrize(("recipe", "runs"), RECIPES.items())
def test_a_recipes_files_say_what_its_script_does(recipe: str, runs: str) -> None:
    script = (CONFIGS / "maze" / "train.sh").read_text().replace('"$runs/', f'"{runs}/').replace('"', "")
    lines = re.findall(r"^ *(?:# )?stage (\w+) (\w+)((?: --(?:init|teacher) \S+)*)", script, re.MULTILINE)
    assert {name for _, name, _ in lines} >= {"vae", "decoder", *TRANSFORMER, "rolling"}
    for stage, name, options in lines:
        path = CONFIGS / recipe / f"{name}.toml"
        assert stage in STAGES
        if recipe != "maze" and name in ONLY_OF_MAZE:
            continue
        command = f"worldenv train {stage} --config configs/{recipe}/{name}.toml{options} --out {runs}/{name}"
        assert path.read_text().startswith(f"# {command}\n")
        config = load_toml(TrainConfig, path)
        large = "display_" if stage == "display" else ""
        assert (config.data, config.heldout) == (Path(runs) / f"{large}train", Path(runs) / f"{large}heldout")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_transformer_keeps_the_sizes_that_it_begins_with(recipe: str) -> None:
    """Other stages repeat them or say nothing; finer tokens and rendered memory add to them alone."""
    first = load_toml(TrainConfig, CONFIGS / recipe / "bidirectional.toml").dit
    for path in (CONFIGS / recipe).glob("*.toml"):
        if path.stem in ("record", "heldout", "pose", "vae", "decoder", "heads", *RECORDINGS, *LARGE):
            continue
        dit = load_toml(TrainConfig, path).dit
        assert dit == DiTConfig() or replace(dit, patch=first.patch, render_input=False) == first
        assert dit.patch <= first.patch


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipes_stages_fit_together(recipe: str) -> None:
    spec = load_toml(TrainConfig, CONFIGS / recipe / "vae.toml").spec
    for name in ("record", "heldout"):
        recorded = load_toml(RecordConfig, CONFIGS / recipe / f"{name}.toml").spec
        assert (recorded.width, recorded.height) == (spec.width, spec.height)
    assert spec.width == (128 if recipe == "maze128" else 64)
    trained = [load_toml(TrainConfig, CONFIGS / recipe / f"{name}.toml") for name in TRANSFORMER]
    assert len({config.denoise.shift for config in trained[:-1]}) == 1, "levels of noise; a student has its own"
    assert len({config.sampler.shift for config in trained[3:]}) == 1


def test_large_recordings_are_of_the_packaged_worlds_mazes() -> None:
    spec = load_toml(TrainConfig, CONFIGS / "maze" / "vae.toml").spec
    for name in LARGE:
        config = load_toml(RecordConfig, CONFIGS / "maze" / f"{name}.toml")
        assert (config.spec.width, config.spec.height) == (SCALE * spec.width, SCALE * spec.height)
        assert config.spec.maze == spec.maze
        assert (config.first_seed >= 960_000) == (name == "heldout_display")


def test_gates_differ_in_what_they_decide_alone() -> None:
    gates = {path.stem: load_toml(TrainConfig, path) for path in (CONFIGS / "gates").glob("*.toml")}
    script = (CONFIGS / "gates" / "run.sh").read_text()
    assert set(gates) == {"vae", "vae16", "heads", "memory", "plain", "classic", "large"}
    assert {gates[name].spec.maze for name in ("plain", "classic")} == {"plain-objects", "classic-objects"}
    for name in ("plain", "classic", "large"):
        same = replace(gates[name], data=gates["memory"].data, heldout=None, spec=gates["memory"].spec)
        assert same == gates["memory"], name
        assert (CONFIGS / "gates" / f"{name}.toml").read_text().startswith("# worldenv train memory --config")
    for width, name in ((64, "vae"), (128, "vae16")):
        config = gates[name]
        assert (config.spec.width, config.spec.width // config.vae.stride) == (width, 8), "as many tokens"
    assert all(f"configs/gates/{name}" in script or f" {name} " in script for name in ("vae16", "heads", "large"))


@pytest.mark.parametrize(("name", "processes"), [("one_gpu", 1), ("eight_gpus", 8)])
def test_configurations_of_accelerate_parse(name: str, processes: int) -> None:
    config = load_config_from_file(str(CONFIGS / "accelerate" / f"{name}.yaml"))
    assert (config.num_processes, config.mixed_precision, config.use_cpu) == (processes, "bf16", False)
