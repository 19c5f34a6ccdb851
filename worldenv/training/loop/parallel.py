"""Several training processes on one machine: each takes a share of the batch, gradients are averaged.

On a CPU two processes of one thread each keep two cores busier than one process of two threads; with GPUs there is one
process per GPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ...base.lock import in_use

PATIENCE = timedelta(hours=12)
"""How long processes wait for the main one, which encodes recordings and draws previews."""

KEEPING_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**32)}
"""Lets glibc keep freed memory for the next tensor; asking the system anew is a page fault for each 4 KiB of it."""


def is_launched() -> bool:
    """Whether this process is one of several that a launcher started (torchrun, accelerate launch, ``launch``)."""
    return "WORLD_SIZE" in os.environ


def process_state() -> PartialState:
    """Join the other processes, if there are any; accelerate does so on CPUs only when told that it is on one."""
    if not is_launched():
        return PartialState()
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def launch(arguments: Sequence[str], num_processes: int) -> NoReturn:
    """Become the launcher of several ``worldenv`` processes with these arguments; signals reach them through it."""
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    alone = ["--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    launcher = [sys.executable, "-m", "torch.distributed.run", *alone, f"--nproc-per-node={num_processes}"]
    defaults = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600",  # after Ctrl-C a step is finished and saved
        **KEEPING_MEMORY,
    }
    os.execve(sys.executable, [*launcher, "-m", "worldenv.cli", *arguments], defaults | os.environ)


def leave() -> None:
    """Part from the other processes when all are done; one that just ended would break the others' connections."""
    state = process_state()
    state.wait_for_everyone()
    state.destroy_process_group()


def average_gradients(module: nn.Module) -> None:
    """Replace every gradient by its mean over all processes."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    # One message: sent one by one, a hundred gradients wait for a hundred answers. They become views of the mean.
    vector_to_parameters(reduce(parameters_to_vector(gradients), reduction="mean"), gradients)


def from_main(value: int, device: torch.device) -> int:
    """Return the main process's value in every process."""
    return int(broadcast(torch.tensor([value], device=device)))


def from_all(value: float, device: torch.device) -> float:
    """Return the mean of all processes' values; of one process its own."""
    if process_state().num_processes == 1:
        return value
    return float(reduce(torch.tensor(value, device=device, dtype=torch.float64), reduction="mean"))


def writing(out: Path) -> AbstractContextManager[None]:
    """Hold the folder of a run, where this is the process that writes to it; see ``base.lock.in_use``."""
    return in_use(out) if process_state().is_main_process else nullcontext()


@contextmanager
def all_cores() -> Iterator[None]:
    """Let this process use every core while the others wait for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
