"""A table of trained policies: written before it is run, gone on with, scored at starts that nobody was trained at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from tests.world.test_clips import some_clips, with_clips
from worldenv.base.config import dump_toml, load_toml, merge
from worldenv.world.world import World
from worldenv_agents import comparison, comparison_report
from worldenv_agents.cli import main
from worldenv_agents.environments import EnvConfig
from worldenv_agents.loop import LoopTable, comparison_of, run_loop

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "loops"
ARMS = {
    "world": {"says": "inside, as the world remembers"},
    "none": {"says": "inside, the chunk before alone", "memory": "none", "ppo": {"steps": 64}},
    "blank": {"says": "inside, seeing nothing", "blank": True},
}


def table(path: Path, world: Path, **changes: Any) -> Path:
    ppo = {"num_envs": 4, "steps": 32, "rollout": 8, "minibatch": 16, "epochs": 4, "lr": 3e-3, "gamma": 0.5}
    values = {
        "title": "who sees when to press",
        "claim": "who was trained with memory presses when it is bright",
        "metric": "return",
        "environment": {"env": "worldenv/World-v0", "world": str(world), "obs_mode": "stack", "horizon": 4},
        "ppo": ppo,
        "seeds": [0],
        "legs": 2,
        "leg_episodes": 2,
        "episodes": 4,
        "videos": 2,
        "arms": ARMS,
        "evaluate": {"recent": {"memory": "recent"}},
    }
    path.write_text(dump_toml(merge(values, changes)))
    return path


def test_one_command_trains_scores_reports_and_goes_on(
    bright: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, out = tmp_path / "suite.json", tmp_path / "loop"
    fidelity = {arm: {"psnr": {"mean": mean, "ci95": [mean - 1, mean + 1]}} for arm, mean in (("a", 20.0), ("b", 15.0))}
    suite.write_text(json.dumps({"arms": fidelity}))
    named = {"report": str(suite), "metric": "psnr", "arms": {"world": "a", "none": "b"}}
    file = table(tmp_path / "table.toml", bright, fidelity=named)
    monkeypatch.setattr("sys.argv", ["worldenv-agents", "loop", str(file), "--out", str(out)])
    main()
    assert "who was trained with memory" in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert list(report["arms"]) == ["random", *ARMS]
    for name, row in report["arms"].items():
        assert row["real"]["n"] == row["gap"]["n"] == row["also"]["recent"]["return"]["n"] == 4
        assert row["gap"]["mean"] == pytest.approx(row["imagined"]["mean"] - row["early"]["mean"], abs=1e-3)
        assert row["state_bytes"] > 0
        assert (row.get("steps_per_s", 0) > 0) == (name != "random")
    assert [report["arms"][name]["steps"] for name in ARMS] == [32, 64, 32]
    assert set(report["differences"]) == {f"world - {name}" for name in ("random", "none", "blank")}
    assert report["differences"]["world - none"]["return"]["verdict"] == "inconclusive"  # of one seed
    assert [point["step"] for point in report["curves"]["none"][0]] == [32, 64]
    assert report["fidelity"]["arms"]["none"]["mean"] == 15
    videos = ("world-0/real.mp4", "blank-0/imagined.mp4")
    assert all((out / name).stat().st_size for name in ("curves.png", "fidelity.png", "registered.json", *videos))

    # Cut short behind the first leg of one policy: that leg is scored again, and nothing else is done.
    curve = out / "none-0" / "curve.jsonl"
    lines = curve.read_text().splitlines(keepends=True)
    curve.write_text(lines[0])
    trained: list[str] = []
    monkeypatch.setattr(comparison, "train", lambda *a, out, **k: trained.append(out.name) or real(*a, out=out, **k))
    monkeypatch.setattr(comparison_report, "draw_learning", lambda *a, **k: None)  # which takes a second
    again = run_loop(file, out)
    assert trained == ["none-0"]
    assert json.loads(lines[1])["real"] == json.loads(curve.read_text().splitlines()[1])["real"]
    assert again["differences"] == report["differences"]
    with monkeypatch.context() as later:
        later.setattr(EnvConfig, "weights", lambda self: "of a world that was trained on")
        with pytest.raises(ValueError, match="was begun with another weights"):
            run_loop(file, out)
    table(file, bright, fidelity=named, claim="who was trained without presses as well")
    with pytest.raises(SystemExit, match=r"loop: .* was begun with another claim; go on as registered.json says"):
        main()


real = comparison.train


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"none": {"memroy": "none"}}}, r"arms\.none: unknown key 'memroy'"),
        ({"arms": {"none": {"memory": "nonne"}}}, r"arm 'none': unknown memory policy 'nonne'; choose one of"),
        ({"arms": {"none": {"env": "worldenv/Wrld-v0"}}}, r"unknown env 'worldenv/Wrld-v0'"),
        ({"arms": {"other": {"memory": "none"}}}, r"arms\.other: write a sentence says"),
        ({"arms": {"random": {"says": "x"}}}, r"arm 'random': arms are world, .* none called as a baseline is"),
        ({"ppo": {"stepps": 3}}, r"ppo: unknown key 'stepps'"),
        ({"ppo": {"seed": 3}}, r"ppo\.seed: the table says that itself"),
        ({"baselines": ["walk"]}, r"policy 'walk': unknown policy 'walk'"),
        ({"metric": "pleasure"}, r"metric: got 'pleasure'; choose one of 'success', 'return'"),
        ({"seeds": [-1]}, r"seed=-1 must be 0 or more"),
        ({"videos": 10**8}, r"videos=100000000 must be at most 65536"),
        ({"margin": -1.0}, r"margin=-1.0 must be 0 or more"),
        ({"legs": 10**9}, r"legs=1000000000 must be at most 1024"),
        ({"episodes": 10**12}, r"episodes=1000000000000 must be at most 16777216"),
        ({"first_seed": -1}, r"first_seed=-1 must be 0 or more"),
        ({"arms": {"a/": {"says": "x"}, "a_": {"says": "x"}}}, r"arm 'a_': its folder would be that of 'a/'"),
        ({"arms": {"y" * 300: {"says": "x"}}}, r"arm 'y{40}': a name is one line of 1 to 160 characters"),
        ({"seeds": [1, 1]}, r"seeds=\(1, 1\); name one or more, each once"),
        ({"fidelity": {"report": "no.json", "metric": "psnr", "arms": {}}}, r"fidelity: no\.json: no such file"),
        ({"evaluate": {"recent": {"mem": "x"}}}, r"evaluate\.recent: unknown key 'mem'"),
    ],
)
def test_what_is_not_known_is_refused_before_anything_is_written(
    bright: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        run_loop(table(tmp_path / "table.toml", bright, **changes), tmp_path / "loop")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "loop").exists()


@pytest.mark.parametrize("name", ["revisit_transfer", "revisit_control"])
def test_the_tables_of_this_folder_are_whole(name: str) -> None:
    table = load_toml(LoopTable, FOLDER / f"{name}.toml")
    asked, environment = comparison_of(table), table.environment
    assert list(asked.arms)[:3] == ["worldplay", "recent", "none"]
    assert {"simulator", "real", "blank"} < set(asked.arms)
    assert asked.arms["blank"].learner.environment.blank
    assert environment["task_options"] == {"variant": "out_of_view" if name == "revisit_transfer" else "in_view"}
    assert environment["starts"][1] <= asked.places.real.starts[0]  # type: ignore[index]
    assert f"worldenv-agents loop configs/loops/{name}.toml " in (FOLDER / f"{name}.toml").read_text()


def test_the_table_of_corrected_clones_is_whole() -> None:
    asked = comparison_of(load_toml(LoopTable, FOLDER / "hand_correction.toml"))
    assert list(asked.arms) == ["world", "blank", "simulator"]
    assert [arm.inside for arm in asked.arms.values()] == [True, True, False]
    corrected = {arm.learner.environment.correct for arm in asked.arms.values()}
    assert corrected == {name.partition(":")[2] for name in asked.baselines if name.startswith("cloned:")}
    assert asked.likeliest, "the clone, which it is compared with, does not explore"


def test_policies_are_scored_at_starts_that_they_were_not_trained_at(tiny_world_dir: Path) -> None:
    environment = {"env": "worldenv/Navigate-v0", "world": str(tiny_world_dir), "starts": [0, 60]}
    arms = {
        "world": {"says": "all", "render": False},
        "few": {"says": "four mazes", "starts": [0, 4], "blank": True},
        "simulator": {"says": "simulator", "dynamics": "sim"},
    }
    asked = comparison_of(
        LoopTable(title="t", claim="c", environment=environment, arms=arms, test_starts=(60, 64), ppo={"steps": 8})
    )
    assert [arm.learner.environment.starts for arm in asked.arms.values()] == [(0, 60), (0, 4), (0, 60)]
    assert {place.starts for arm in asked.arms.values() for place in arm.places.all()} == {(60, 64)}
    assert [arm.inside for arm in asked.arms.values()] == [True, True, False]
    places = {name: arm.places for name, arm in asked.arms.items()}
    assert [places[name].real.place for name in arms] == ["sim"] * 3
    assert [places[name].imagined.place for name in arms] == ["world"] * 3
    assert places["few"].real.blank
    assert places["world"].imagined.options()["memory"] == {"render": False}
    assert EnvConfig(memory="recent", render=True).options()["memory"] == {"policy": "recent", "render": True}


def test_starts_are_a_part_of_those_that_the_world_has(tiny_world: World, rendered_world: World) -> None:
    assert tiny_world.starts is not None
    envs: Any = gym.make_vec("worldenv/Revisit-v0", num_envs=3, world=tiny_world, starts=(60, 62))
    obs, _ = envs.reset(seed=0, options={"start": [0, 1, 1]})
    np.testing.assert_array_equal(obs, tiny_world.starts.frames[[60, 61, 61]])
    world = with_clips(rendered_world, some_clips(rendered_world, count=4))
    assert world.clips is not None
    envs = gym.make_vec("worldenv/Navigate-v1", num_envs=4, world=world, starts=[1, 3])
    _, info = envs.reset(seed=0)
    ends = world.clips.c2w[1:3, -1].numpy()
    assert all(any(np.allclose(here, end) for end in ends) for here in info["c2w"])
    for starts, message in (
        ((3, 5), r"starts=\[3, 5\], but world .* has 4 recorded histories"),
        ((3, 3), r"starts=\(3, 3\); pass two whole numbers, the first below the second"),
        ((0, 1, 2), "pass two whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            gym.make_vec("worldenv/Navigate-v1", num_envs=1, world=world, starts=starts)
