"""Time the kernels on this GPU: ``python -m worldenv_kernels.bench [--out kernels/results]``.

Every candidate is checked against the definition first; one that fails is written down as refused and not timed.
Beside the kernels stand PyTorch's dense attention, cuDNN's and FlexAttention, after the gather or with it. Rates are
put next to what a matrix product and a copy reach on the same GPU.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from math import nan
from pathlib import Path

import torch

from .candidates import Candidate, candidates
from .workloads import WORKLOADS

COMMAND = "python -m worldenv_kernels.bench"

Timer = Callable[[Callable[[], object]], tuple[float, float, float]]
"""Returns median, 20th and 80th percentile in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the results."""

    workload: str
    op: str
    route: str
    status: str = ""
    error: float = nan
    median_ms: float = nan
    p20_ms: float = nan
    p80_ms: float = nan
    tflops: float = nan
    gb_per_s: float = nan
    of_ceiling: float = nan  # of the measured matrix product if there are flops, else of the measured copy


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What this GPU reaches."""

    tflops: float
    gb_per_s: float


def measure(workload: str, candidate: Candidate, *, timer: Timer, ceilings: Ceilings) -> Row:
    """Check a candidate and time it; one that raises or is wrong is refused."""
    row = Row(workload=workload, op=candidate.op, route=candidate.route)
    try:
        error = candidate.error()
    except Exception as failure:  # whatever it is, this route cannot be timed and the others can
        reason = f"{type(failure).__name__}: {str(failure).partition(chr(10))[0]}"
        return replace(row, status=f"refused: {reason}")
    if not error <= candidate.tolerance:
        return replace(row, status=f"refused: error above {candidate.tolerance:g}", error=error)
    median, p20, p80 = timer(candidate.run)
    cost = candidate.cost
    tflops, gb_per_s = cost.flops / median / 1e9, cost.moved / median / 1e6
    share = tflops / ceilings.tflops if cost.flops else gb_per_s / ceilings.gb_per_s
    return replace(
        row,
        status="ok",
        error=error,
        median_ms=median,
        p20_ms=p20,
        p80_ms=p80,
        tflops=tflops,
        gb_per_s=gb_per_s,
        of_ceiling=share,
    )


def measure_ceilings(timer: Timer, *, device: str, dtype: torch.dtype, size: int) -> Ceilings:
    """Time a square matrix product and a copy of the same number of elements times 16."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.empty(16 * size * size, dtype=dtype, device=device)
    target = torch.empty_like(source)
    product, copy = timer(lambda: a @ b)[0], timer(lambda: target.copy_(source))[0]
    return Ceilings(tflops=2.0 * size**3 / product / 1e9, gb_per_s=2.0 * source.nbytes / copy / 1e6)


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in asdict(row).items()})


def main(arguments: list[str]) -> int:
    """Measure everything on the first GPU; 1 without one."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("kernels/results"), help="folder of the CSV")
    out: Path = parser.parse_args(arguments).out
    if not torch.cuda.is_available():
        print(f"there is no GPU here and nothing to measure; on a machine with one run\n  {COMMAND} --out {out}")
        return 1
    from triton.testing import do_bench

    def timer(run: Callable[[], object]) -> tuple[float, float, float]:
        median, p20, p80 = do_bench(run, quantiles=[0.5, 0.2, 0.8])
        return median, p20, p80

    device, name = "cuda", torch.cuda.get_device_name().replace(" ", "-")
    ceilings = measure_ceilings(timer, device=device, dtype=torch.bfloat16, size=8192)
    print(f"{name}: matrix product {ceilings.tflops:.0f} TFLOP/s, copy {ceilings.gb_per_s:.0f} GB/s")
    rows = []
    for work in WORKLOADS:
        for candidate in candidates(work, device=device, dtype=torch.bfloat16):
            row = measure(work.name, candidate, timer=timer, ceilings=ceilings)
            rows.append(row)
            print(_line(row), flush=True)
    write_rows(out / f"{name}.csv", rows)
    return 0


def _line(row: Row) -> str:
    spread = f"{row.median_ms:8.3f} ms ({row.p20_ms:.3f} to {row.p80_ms:.3f})"
    rates = f"{row.tflops:6.1f} TFLOP/s {row.gb_per_s:7.1f} GB/s {row.of_ceiling:6.1%} of the ceiling"
    return f"{row.workload:13} {row.op:17} {row.route:22} {spread} {rates} {row.status}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
