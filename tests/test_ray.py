"""Over Ray, on one cluster of this machine: environments, suites and recordings are what they are without it."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.turntable import GYM
from tests.envs.conftest import make_local
from tests.envs.test_sharded import same, walk
from tests.eval.conftest import noise_cases  # noqa: F401
from tests.eval.test_run import Arm, scorer
from worldenv.base.workers import worker_pool
from worldenv.data.record import record
from worldenv.data.schema import shard_paths
from worldenv.envs.ray_env import RayVectorEnv
from worldenv.eval.suites import run
from worldenv.eval.suites.arms import Progress
from worldenv.eval.suites.cases import Cases
from worldenv_agents.environments import EnvConfig
from worldenv_agents.jobs import run_jobs
from worldenv_agents.ledger import Ledger
from worldenv_agents.rank import policy_jobs

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the ray extra is not installed")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Any]:
    """A cluster of two nodes on this machine for all tests; what connects to ``local`` finds it."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    system = {"_system_config": {"worker_niceness": 0}}
    nodes = Cluster(initialize_head=True, head_node_args=node | system)
    del node["include_dashboard"]
    nodes.add_node(**node)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()
    nodes.shutdown()


def process_of(core: Any) -> int:
    return os.getpid()


def processes_of(envs: RayVectorEnv) -> list[int]:
    calls = [actor.call.remote(process_of, ()) for actor in envs.core.shards.actors]  # type: ignore[attr-defined]
    return [int(pid) for pid in importlib.import_module("ray").get(calls)]


def test_rows_in_actors_are_local_rows_and_outlive_an_actor(tiny_world_dir: Path, tmp_path: Path, cluster: Any) -> None:
    kwargs: dict[str, Any] = {"world": str(tiny_world_dir), "device": "cpu", "max_episode_steps": 3}
    envs = RayVectorEnv("worldenv/Navigate-v0", 4, num_actors=2, **kwargs)
    local = make_local(num_envs=2, **kwargs)  # type: ignore[arg-type]
    assert same(envs.reset(seed=[5, 6, 7, 8])[0], local.reset(seed=[7, 8])[0], slice(2, 4), slice(0, 2))
    for action in np.random.default_rng(0).integers(0, 4, (4, 4)):
        ours, theirs = envs.step(action), local.step(action[2:])
        assert same(ours[:4], theirs[:4], slice(2, 4), slice(0, 2)), "through time limits and resets"
    envs.save_state(tmp_path / "state.safetensors", [2, 3])
    local.load_state(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match="64 start views"):
        envs.reset(options={"start": 64})
    with pytest.raises(ValueError, match="another actor"):
        envs.fork([0], [2])

    os.kill(processes_of(envs)[0], signal.SIGKILL)
    ours, theirs = walk(envs, 1)[0], None
    assert ours[4]["actor_lost"].tolist() == [True, True, False, False]
    assert ours[3].tolist()[:2] == [True, True]
    theirs = local.step(np.random.default_rng(0).integers(0, 4, 4)[2:])
    assert same(ours[:4], theirs[:4], slice(2, 4), slice(0, 2)), "the others go on"
    assert not walk(envs, 1)[0][4].get("actor_lost", np.zeros(4, bool)).any()
    envs.close()
    local.close()


@pytest.mark.slow
def test_two_hundred_steps_go_on_when_actors_are_killed(tiny_world_dir: Path) -> None:
    """On two nodes, which is where the two blocks lie."""
    envs = RayVectorEnv("worldenv/Navigate-v0", 4, num_actors=2, world=str(tiny_world_dir), device="cpu")
    kills, rng = {20: 0, 21: 1, 90: 0, 150: 1, 199: 0}, np.random.default_rng(0)
    envs.reset(seed=0)
    for step in range(200):
        lost = [False] * 4
        if step in kills:
            os.kill(processes_of(envs)[kills[step]], signal.SIGKILL)
            lost = [row // 2 == kills[step] for row in range(4)]
        *_, truncated, info = envs.step(rng.integers(0, 4, 4))
        assert info.get("actor_lost", np.zeros(4, bool)).tolist() == lost, step
        assert truncated[lost].all()
    envs.close()


def test_wrong_arguments_are_told_in_a_line(tiny_world_dir: Path) -> None:
    with pytest.raises(ValueError, match="num_envs=3 rows cannot be shared equally by num_actors=2"):
        RayVectorEnv("worldenv/Navigate-v0", 3, num_actors=2)
    with pytest.raises(ValueError, match="unknown id 'CartPole-v1'; RayVectorEnv makes worldenv/"):
        RayVectorEnv("CartPole-v1", 2)
    with pytest.raises(ValueError, match=r"^2 actors of num_cpus=9 do not fit a cluster of 4; pass .*'num_cpus': 2}$"):
        RayVectorEnv("worldenv/Navigate-v0", 2, num_actors=2, device="cpu", actor_options={"num_cpus": 9})
    with pytest.raises(ValueError, match=r"^unknown obs_mode 'smell'; choose"):
        RayVectorEnv("worldenv/Navigate-v0", 1, world=str(tiny_world_dir), device="cpu", obs_mode="smell")


class DiesOnce(Arm):
    """Kills the first worker that runs it."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark

    def __call__(self, cases: Cases, progress: Progress) -> torch.Tensor:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(cases, progress)


def test_suites_are_the_same_when_a_worker_dies(
    noise_cases: Any,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "BATCH", 2)
    cases = noise_cases(["explore"] * 5, 2)
    wanted = run.run_arms({"a": Arm(), "b": Arm()}, cases, scorer, tmp_path / "here", num_chunks=2, key="k")
    arms = {"a": Arm(), "b": DiesOnce(tmp_path / "died")}
    found = run.run_arms(arms, cases, scorer, tmp_path / "there", num_chunks=2, key="k", ray="local")
    assert (tmp_path / "died").exists()
    for name, result in wanted.items():
        for metric, values in result.metrics.items():
            np.testing.assert_array_equal(found[name].metrics[metric], values)
        assert torch.equal(found[name].shown, result.shown)  # type: ignore[arg-type]


def test_recordings_are_the_same(tmp_path: Path) -> None:
    what = replace(GYM, env=f"tests.data.turntable:{GYM.env}")  # workers do not know what was registered here
    record(what, tmp_path / "here", workers=1)
    record(what, tmp_path / "there", ray="local")
    here, there = ([path.read_bytes() for path in shard_paths(tmp_path / name)] for name in ("here", "there"))
    assert here == there


def test_closed_loops_are_the_same(tiny_world_dir: Path, tmp_path: Path) -> None:
    where = EnvConfig(world=str(tiny_world_dir), max_episode_steps=2)
    rows = []
    for name, ray in (("here", ""), ("there", "local")):
        ledger, settings = Ledger(tmp_path / name, {}), {"episodes": 3, "num_envs": 2, "first_seed": 5}
        run_jobs(list(policy_jobs(ledger, "random", where, "world", settings)), ledger, lambda *_: None, ray=ray)
        rows.append(ledger.of(policy="random"))
    assert [row["seed"] for row in rows[0]] == [5, 6, 7]
    assert rows[0] == rows[1]


def refuse() -> None:
    raise ValueError("no such thing")


def test_errors_of_workers_are_the_functions_own() -> None:
    with pytest.raises(ValueError, match=r"^no such thing$"), worker_pool(1, ray="local") as pool:
        pool.submit(refuse).result()
