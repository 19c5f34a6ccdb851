"""Which implementation runs, and that nothing imports Triton before a GPU or its interpreter is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from worldenv_kernels.backend import choose

ROOT = Path(__file__).resolve().parents[2]


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, without the interpreter unless it is asked for."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), inherited.get("PYTHONPATH", "")])
    environment = {**inherited, "PYTHONPATH": path, **variables}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_on_a_cpu_the_definition_runs_and_triton_is_not_imported() -> None:
    result = run(
        "import sys, torch\n"
        "from worldenv_kernels import *\n"
        "places = Places(positions=torch.zeros(1, 1))\n"
        "pages = make_pages(1, 4, 2, 32, dtype=torch.float32)\n"
        "table, space = torch.zeros(1, 1, dtype=torch.int32), space_table(2, 2, head_dim=32, theta=1e4)\n"
        "q, r = torch.randn(1, 1, 4, 1, 2, 32), reframe(places, places, table, head_dim=32, theta=1e4, space=space)\n"
        "assert memory_attention(q, pages, r).shape == (1, 1, 4, 1, 2, 32)\n"
        "assert reframe_gather(pages, r)[0].shape == (1, 2, 4, 32)\n"
        "print('triton' in sys.modules)"
    )
    assert result.stdout.strip() == "False", result.stderr


def test_triton_on_a_cpu_needs_the_interpreter(triton: None) -> None:
    result = run(
        "import torch\nfrom worldenv_kernels.backend import choose\nchoose('triton', torch.zeros(1), head_dim=64)"
    )
    assert "TRITON_INTERPRET=1 was not set" in result.stderr


def test_auto_on_a_cpu_is_torch_even_with_the_interpreter(triton: None) -> None:
    assert choose("auto", torch.zeros(1), head_dim=64) == "torch"
    assert choose("triton", torch.zeros(1), head_dim=64) == "triton"


def test_what_kernels_do_not_take(triton: None) -> None:
    with pytest.raises(ValueError, match="heads have 24 channels, kernels take 32, 64, 128"):
        choose("triton", torch.zeros(1), head_dim=24)
    with pytest.raises(ValueError, match="known are auto, triton, torch"):
        choose("gather", torch.zeros(1), head_dim=64)
