"""Processes forked after this one has computed: what Gymnasium's asynchronous vector environments are by default."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, gymnasium as gym, numpy as np, torch, worldenv

def make():
    return gym.make("worldenv/Revisit-v0", world=sys.argv[1], device="cpu", dtype="float32")

if __name__ == "__main__":
    torch.set_num_threads(2)
    env = make()
    env.reset(seed=3)
    shown = env.step(0)[0]
    envs = gym.vector.AsyncVectorEnv([make] * 2, context="fork")
    envs.reset(seed=[3, 3])
    frames = envs.step(np.zeros(2, int))[0]
    assert abs(frames.astype(int) - shown).max() <= 2
    envs.close()
    assert torch.get_num_threads() == 2
    env.step(1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forks_of_a_process_that_has_stepped_step_too(tiny_world_dir: Path) -> None:
    """OpenMP waits for ever for threads that a fork does not have."""
    command = [sys.executable, "-c", PROGRAM, str(tiny_world_dir)]
    threads = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    with subprocess.Popen(
        command, env={**os.environ, **threads}, stderr=subprocess.PIPE, start_new_session=True
    ) as program:
        try:
            error = program.communicate(timeout=120)[1]
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            pytest.fail("hangs")
    assert program.returncode == 0, error.decode()
