"""The least time of every op on a GPU, from data sheets: ``python -m worldenv_kernels.roofline [--out FILE.csv]``.

A prediction, not a measurement: arithmetic at the matrix units' peak or bytes at the memory's, whichever takes longer.
What kernels reach of it, ``worldenv_kernels.bench`` measures.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .workloads import WORKLOADS, Cost, Workload, attention_cost, dense_cost, gather_cost


@dataclass(frozen=True, kw_only=True)
class GPU:
    """Peaks of NVIDIA's data sheets, without sparsity."""

    name: str
    bf16_tflops: float
    int8_tops: float
    tb_per_s: float


GPUS = (
    GPU(name="H100 SXM", bf16_tflops=989, int8_tops=1979, tb_per_s=3.35),
    GPU(name="H200 SXM", bf16_tflops=989, int8_tops=1979, tb_per_s=4.8),
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A line of the table."""

    gpu: str
    workload: str
    op: str
    route: str
    gflop: float
    mbytes: float
    bound: str  # by arithmetic or by memory
    least_ms: float


def predict(gpu: GPU) -> Iterator[Prediction]:
    """Predict every op of every workload."""
    half_int8 = 2 / (1 / gpu.bf16_tflops + 1 / gpu.int8_tops)  # scores in int8, values in bfloat16
    for work in WORKLOADS:
        for op, route, cost, tflops in (
            ("memory_attention", "pages-plain", attention_cost(work, forms=1), gpu.bf16_tflops),
            ("memory_attention", "pages", attention_cost(work), gpu.bf16_tflops),
            ("memory_attention", "pages-int8", attention_cost(work, int8=True), half_int8),
            ("memory_attention", "sdpa, gathered before", dense_cost(work), gpu.bf16_tflops),
            ("reframe_gather", "", gather_cost(work), gpu.bf16_tflops),
        ):
            yield _line(gpu, work, op, route, cost, tflops)


def _line(gpu: GPU, work: Workload, op: str, route: str, cost: Cost, tflops: float) -> Prediction:
    arithmetic, memory = cost.flops / tflops / 1e9, cost.moved / gpu.tb_per_s / 1e9  # milliseconds
    return Prediction(
        gpu=gpu.name,
        workload=work.name,
        op=op,
        route=route,
        gflop=round(cost.flops / 1e9, 3),
        mbytes=round(cost.moved / 1e6, 3),
        bound="arithmetic" if arithmetic > memory else "memory",
        least_ms=round(max(arithmetic, memory), 5),
    )


def main(arguments: list[str]) -> int:
    """Print the table, and write it if asked."""
    parser = argparse.ArgumentParser(prog="python -m worldenv_kernels.roofline", description=__doc__)
    parser.add_argument("--out", type=Path, help="CSV file to write")
    out: Path | None = parser.parse_args(arguments).out
    rows = [row for gpu in GPUS for row in predict(gpu)]
    for row in rows:
        print(f"{row.gpu:9} {row.workload:14} {row.op:17} {row.route:22} {row.least_ms:9.4f} ms, {row.bound}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])))
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
