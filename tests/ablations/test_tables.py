"""Tables of ablations: what their files declare, what is trained for them and what is not trained twice."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_stages import record
from worldenv.ablations import training as ablation_training
from worldenv.ablations.run import parse_settings, stepped, suite_of
from worldenv.ablations.table import AblationTable, Run, ordered, read_table, run_of
from worldenv.cli import main
from worldenv.data.record import RecordConfig
from worldenv.dynamics.spec import WorldSpec
from worldenv.training.stages.registry import train
from worldenv.world.world import World

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "ablations"
FILES = [path for path in sorted(FOLDER.glob("*.toml")) if path.stem not in ("common", "autoregressive")]

TINY = """
title = "tiny: one step size against another"
world = "{world}"
seeds = [0, 1]
[question]
claims = [["full", "bare"]]
primary = "psnr"
secondary = ["ssim"]
[cases]
worlds = 2
chunks = 2
depth = false
[base.dit]
width = 24
num_layers = 1
num_heads = 1
ffn_dim = 32
freq_dim = 16
[base.memory]
temporal_latents = 8
num_points = 512
[base.optim]
steps = 2
batch = 2
warmup = 1
preview_every = 0
mixed_precision = "no"
[stages.causal.denoise]
num_chunks = 2
[stages.memory.denoise]
draws = 1
[arms.full]
[arms.bare]
from = "memory"
memory.policy = "none"
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("gpu", [False, True])
def test_the_repositorys_tables_fit_the_code(path: Path, gpu: bool) -> None:
    table = read_table(path, gpu=gpu)
    command = f"# worldenv eval ablations --table configs/ablations/{path.name} --out out/ablations/{path.stem}\n"
    assert path.read_text().startswith(command)
    assert len(table.seeds) == 5
    assert table.cases.depth or not table.question.primary.startswith("seen")
    assert table.cases.given < table.cases.chunks
    suite_of(table)
    outcomes = {arm: run_of(table, arm, 0, "") for arm in table.arms}
    changed = {arm: (run.key, str(table.arms[arm].get("step"))) for arm, run in outcomes.items()}
    assert len(set(changed.values())) == len(changed), "two arms are the same"
    for run in ordered(list(outcomes.values())):
        config = run.config(Path("runs"), start=Path("start"), data=Path("data"))
        assert config.optim.seed == 0
        assert config.init is not None
        assert run.init is None or run.init.config(Path(), start=Path(), data=Path()).dit == config.dit
        assert (run.stage == "context_forcing") == (config.teacher is not None) == config.sampler.stochastic


def test_tables_share_what_they_train() -> None:
    keys = {path.stem: {arm: run_of(t, arm, 3, "").key for arm in t.arms} for path in FILES if (t := read_table(path))}
    assert keys["table4"]["reframed"] == keys["memory"]["retrieved"] == keys["table6"]["before_50_steps"]
    assert keys["table6"]["distilled"] == keys["figure8"]["aligned"]
    table = read_table(FOLDER / "table4.toml")
    a, b = (run_of(table, arm, 3, "") for arm in ("reframed", "absolute"))
    assert a.init is not None
    assert b.init is not None
    assert a.init.key == b.init.key, "arms part where they differ"
    assert run_of(table, "reframed", 4, "").key != a.key
    assert run_of(table, "reframed", 3, "other VAE").key != a.key


def test_paths_of_table_4_are_four_times_as_long_as_trained() -> None:
    table = read_table(FOLDER / "table4.toml", gpu=False)
    assert 1 + 4 * table.cases.chunks > 4 * (1 + table.record.num_latents)


@pytest.fixture
def tiny_table(tmp_path: Path, tiny_world_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table on the tiny world, whose recording is random pictures."""

    def make(config: RecordConfig, out: Path, *, workers: int, ray: str) -> None:
        if not out.exists():
            record(out, spec=WorldSpec())

    monkeypatch.setattr(ablation_training, "record", make)
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.format(world=tiny_world_dir))
    return path


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ('claims = [["full", "gone"]]', "the arms are full, bare"),
        ("[arms.other]\nfrom = 'late'", "arm other: unknown stage 'late'; choose one of causal, memory"),
        ("[stages.last]", "stage last: unknown stage 'last'; choose one of vae, decoder"),
        ("[arms.other]\ndit.wide = 3", "unknown key 'wide'"),
    ],
)
def test_slips_are_found_before_anything_is_trained(tiny_table: Path, change: str, complaint: str) -> None:
    text = tiny_table.read_text()
    tiny_table.write_text(text.replace('claims = [["full", "bare"]]', change) if "claims" in change else text + change)
    with pytest.raises(ValueError, match=complaint):
        read_table(tiny_table)


Trained = list[tuple[str, str, int]]


def spy(monkeypatch: pytest.MonkeyPatch, *, stop_before: int = 99) -> Trained:
    """Note what is trained; interrupt before so many."""
    done: Trained = []

    def spying(stage: str, config: Any, out: Path, *, resume: bool) -> World:
        if len(done) == stop_before:
            raise KeyboardInterrupt
        done.append((stage, config.memory.policy, config.optim.seed))
        return train(stage, config, out, resume=resume)

    monkeypatch.setattr(ablation_training, "train", spying)
    return done


@pytest.mark.usefixtures("sims")
def test_one_command_goes_on_where_it_was_interrupted_and_judges(
    tiny_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "tiny"
    command = ["worldenv", "eval", "ablations", "--table", str(tiny_table), "--out", str(out), "--processes", "1"]
    monkeypatch.setattr("sys.argv", command)
    before = spy(monkeypatch, stop_before=4)
    with pytest.raises(SystemExit):
        main()
    after = spy(monkeypatch)
    main()
    assert before == [
        ("causal", "worldplay", 0),
        ("memory", "worldplay", 0),
        ("memory", "none", 0),
        ("causal", "worldplay", 1),
    ]
    assert after == [("memory", "worldplay", 1), ("memory", "none", 1)]
    assert "[2/2] memory, seed 1 (bare)" in capsys.readouterr().err
    report = json.loads((out / "report.json").read_text())
    assert set(report["arms"]) == {"full@0", "bare@0", "full@1", "bare@1", "simulator"}
    said = report["verdicts"]["full - bare"]["psnr"]
    assert set(said["seeds"]) == {"0", "1"}
    assert said["why"].endswith("5 are needed to call it reproduced")
    assert report["question"]["primary"] == "psnr"
    assert (out / "claims.png").is_file()
    assert not list((tmp_path / "out" / "runs").glob("*/samples")), "no previews"


def test_runs_start_from_the_vae_alone(tiny_table: Path, tiny_world: World, tmp_path: Path) -> None:
    shop = ablation_training.prepare(read_table(tiny_table), tmp_path / "runs", processes=1)
    start = World.load(shop.start)
    for name, tensor in tiny_world.vae.state_dict().items():
        assert torch.equal(start.vae.state_dict()[name], tensor)
    assert start.config.provenance == ()
    assert start.spec == tiny_world.spec


class Bench:
    """A workshop that notes the order of runs and trains nothing."""

    def __init__(self, fail: str = "") -> None:
        self.done: list[str] = []
        self.fail = fail

    def is_done(self, run: Run) -> bool:
        return run.key in self.done

    def train(self, run: Run) -> None:
        assert all(map(self.is_done, run.before)), "trained before what it needs"
        if run.name == self.fail:
            raise ValueError("no more")
        self.done.append(run.key)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Bench]:
    """Threads instead of processes."""
    monkeypatch.setattr(ablation_training, "worker_pool", lambda count, **how: ThreadPoolExecutor(count))
    return Bench


def test_several_runs_at_a_time_keep_the_order_of_stages(threads: Callable[[str], Bench]) -> None:
    table = read_table(FOLDER / "figure8.toml", gpu=False)
    runs = ordered([run_of(table, arm, seed, "") for seed in (0, 1) for arm in table.arms])
    bench: Any = threads("")
    assert {run.key for run in ablation_training._trained(bench, runs, 3)} == {run.key for run in runs}
    assert len(bench.done) == len(runs) == 14


def test_what_fails_in_a_process_is_said(threads: Callable[[str], Bench]) -> None:
    table = read_table(FOLDER / "table4.toml", gpu=False)
    bench: Any = threads("memory")
    with pytest.raises(ValueError, match="no more"):
        list(ablation_training._trained(bench, ordered([run_of(table, "reframed", 0, "")]), 2))
    assert len(bench.done) == 1


def test_arms_may_be_stepped_in_another_way(tiny_world: World) -> None:
    settings = ["sampler.num_steps=9", "memory.policy=none", "memory.rendering.until=0.7"]
    world = stepped(tiny_world, parse_settings(settings))
    own = tiny_world.config.memory
    assert world.config.memory.rendering == replace(own.rendering, until=0.7)
    assert world.config.sampler == replace(tiny_world.config.sampler, num_steps=9)
    assert replace(world.config.memory, rendering=own.rendering) == replace(own, policy="none")
    assert world.dit is tiny_world.dit
    assert stepped(tiny_world, {}).config == tiny_world.config


def test_a_table_may_extend_another(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(TINY.format(world="maze") + "[gpu.base.optim]\nsteps = 50\n")
    (tmp_path / "table.toml").write_text('extends = "base.toml"\nbase.optim.batch = 7\n')
    small: AblationTable = read_table(tmp_path / "table.toml", gpu=False)
    large: AblationTable = read_table(tmp_path / "table.toml", gpu=True)
    assert (small.base["optim"]["batch"], small.base["optim"]["steps"]) == (7, 2)
    assert large.base["optim"]["steps"] == 50
