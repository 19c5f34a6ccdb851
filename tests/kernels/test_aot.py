"""Ahead-of-time compilation for Hopper, in a process of its own: here Triton is an interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = (
    "memory_attention-880x128-bf16-tma",
    "memory_attention-48x64-i8-tma",
    "reframe_gather-64-i8",
)


def run(*names: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    path = os.pathsep.join([str(ROOT / "kernels"), inherited.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "worldenv_kernels.aot", *names]
    return subprocess.run(command, capture_output=True, text=True, env={**inherited, "PYTHONPATH": path})


@pytest.fixture(scope="module")
def compiler(triton: None) -> None:
    """Skip where Triton comes without NVIDIA's tools."""
    import triton as package

    try:
        assert package.knobs.nvidia.ptxas.path
        assert package.knobs.nvidia.cuobjdump.path
    except RuntimeError as missing:
        pytest.skip(f"cannot compile for NVIDIA: {missing}")


def test_configurations_compile_without_spills(compiler: None) -> None:
    """Of every kernel one; the command without names compiles all, which takes a minute."""
    result = run(*CHOSEN)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()[1:]
    assert {line.split()[0] for line in lines} == set(CHOSEN)
    assert all(line.endswith("ok") for line in lines)


def test_an_unknown_name_lists_the_known(compiler: None) -> None:
    result = run("nothing")
    assert result.returncode == 1
    assert "no configuration begins with nothing" in result.stdout
    assert set(CHOSEN) <= set(result.stdout.replace(",", " ").split())


def test_what_is_unfit_is_named(triton: None) -> None:
    from worldenv_kernels.aot import Report

    report = Report(registers=255, spilled=16, shared=300_000, instructions={"HGMMA": 3, "IGMMA": 0})
    assert report.problems(("HGMMA", "IGMMA")) == [
        "no IGMMA",
        "spills 16 bytes",
        "takes 300000 bytes of shared memory, there are 232448",
    ]
    assert not Report(registers=99, spilled=0, shared=0, instructions={"HGMMA": 3}).problems(("HGMMA",))


def test_the_interpreter_cannot_compile(triton: None, capsys: pytest.CaptureFixture[str]) -> None:
    from worldenv_kernels.aot import main

    assert main([]) == 1
    assert "unset it" in capsys.readouterr().out
