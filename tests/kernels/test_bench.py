"""The benchmark's harness: what it refuses, what it writes, what it says without a GPU."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from worldenv_kernels import make_pages, roofline
from worldenv_kernels.bench import Ceilings, main, measure, measure_ceilings, write_rows
from worldenv_kernels.candidates import Candidate, candidates
from worldenv_kernels.pages import quantise
from worldenv_kernels.workloads import WORKLOADS, Cost, Workload, attention_cost, gather_cost, page_bytes

CEILINGS = Ceilings(tflops=4.0, gb_per_s=8.0)
TINY = Workload(name="tiny", num_envs=1, frames=1, slots=2, rows=2, columns=3, heads=2, head_dim=32)


def timer(run: Callable[[], object]) -> tuple[float, float, float]:
    run()
    return 2.0, 1.0, 3.0


def candidate(error: float, *, flops: float = 0.0) -> Candidate:
    return Candidate(
        op="op",
        route="route",
        run=lambda: None,
        error=lambda: error,
        tolerance=0.1,
        cost=Cost(flops, 8e6),
    )


def test_rates_and_their_ceilings() -> None:
    row = measure("work", candidate(0.01, flops=4e9), timer=timer, ceilings=CEILINGS)
    assert (row.status, row.median_ms, row.p20_ms, row.p80_ms) == ("ok", 2.0, 1.0, 3.0)
    assert (row.tflops, row.gb_per_s, row.of_ceiling) == (2.0, 4.0, 0.5)
    assert measure("work", candidate(0.01), timer=timer, ceilings=CEILINGS).of_ceiling == 4.0 / 8.0


@pytest.mark.parametrize("error", [0.2, math.nan])
def test_what_fails_its_check_is_not_timed(error: float) -> None:
    def forbidden(run: Callable[[], object]) -> tuple[float, float, float]:
        raise AssertionError("timed")

    row = measure("work", candidate(error), timer=forbidden, ceilings=CEILINGS)
    assert row.status == "refused: error above 0.1"
    assert math.isnan(row.median_ms)


def test_a_route_that_raises_does_not_stop_the_others() -> None:
    def fail() -> float:
        raise RuntimeError("out of memory\nand more")

    broken = Candidate(op="op", route="route", run=lambda: None, error=fail, tolerance=0.1, cost=Cost())
    assert measure("w", broken, timer=timer, ceilings=CEILINGS).status == "refused: RuntimeError: out of memory"


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_every_candidate_passes_its_check(triton: None, tmp_path: Path, backend: str) -> None:
    rows = [
        measure(TINY.name, c, timer=timer, ceilings=CEILINGS)
        for c in candidates(TINY, device="cpu", dtype=torch.float32, backend=backend, flex=False)
    ]
    assert {row.status for row in rows} == {"ok"}, rows
    assert {row.op for row in rows} == {"memory_attention", "reframe_gather"}
    write_rows(tmp_path / "results" / "gpu.csv", rows)
    with (tmp_path / "results" / "gpu.csv").open() as file:
        assert [line["route"] for line in csv.DictReader(file)] == [row.route for row in rows]


def test_costs_are_those_of_the_tensors() -> None:
    plain, both = (make_pages(5, TINY.tokens, TINY.heads, TINY.head_dim, forms=forms) for forms in (1, 2))
    assert 5 * page_bytes(TINY, forms=1) == plain.keys.nbytes + plain.values.nbytes
    assert 5 * page_bytes(TINY, forms=2) == both.keys.nbytes + both.values.nbytes
    keys, mean, scale = quantise(both.keys)
    int8 = keys.nbytes + mean.nbytes + scale.nbytes + both.values.nbytes
    assert 5 * page_bytes(TINY, forms=2, int8=True) == int8
    q, k = (torch.zeros(2, TINY.heads, n * TINY.tokens, TINY.head_dim) for n in (TINY.frames, TINY.slots))
    with FlopCounterMode(display=False) as counter:
        torch.softmax(q @ k.mT, -1) @ k
    assert attention_cost(TINY).flops == counter.get_total_flops()
    assert gather_cost(TINY).moved == TINY.slots * page_bytes(TINY, forms=2) + 4 * 2 * k[0].numel()


def test_a_roofline_takes_the_longer_of_arithmetic_and_memory(tmp_path: Path) -> None:
    gpu = roofline.GPU(name="slow", bf16_tflops=1, int8_tops=2, tb_per_s=1)
    for line in roofline.predict(gpu):
        assert line.least_ms == pytest.approx(max(line.gflop, line.mbytes / 1000), rel=0.02) or "int8" in line.route
    assert roofline.main(["--out", str(tmp_path / "a" / "roofline.csv")]) == 0
    with (tmp_path / "a" / "roofline.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5 * len(WORKLOADS) * len(roofline.GPUS)
    faster = {(x["workload"], x["op"], x["route"]): float(x["least_ms"]) for x in lines if x["gpu"].startswith("H200")}
    assert all(faster[x["workload"], x["op"], x["route"]] <= float(x["least_ms"]) for x in lines)


def test_ceilings_are_measured() -> None:
    found = measure_ceilings(timer, device="cpu", dtype=torch.float32, size=8)
    assert found.tflops == 2.0 * 8**3 / 2.0 / 1e9
    assert found.gb_per_s == 2.0 * 16 * 8 * 8 * 4 / 2.0 / 1e6


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU and it would be measured")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    said = capsys.readouterr().out
    assert "there is no GPU here and nothing to measure" in said
    assert "python -m worldenv_kernels.bench --out kernels/results" in said
