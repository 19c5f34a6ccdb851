"""Compile every shipped configuration for Hopper, on any machine: ``python -m worldenv_kernels.aot``.

Prints registers, spills, shared memory and matrix and TMA instructions of each, and exits 1 if one of them spills,
takes more shared memory than a Hopper program has, or misses an instruction that it was written for.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .backend import HEAD_DIMS
from .memory_attention import kernel as attention
from .pages import SCALE_BLOCK
from .reframe_gather import kernel as gather

SHARED_LIMIT = 227 * 1024
"""Bytes of shared memory that one program may take on Hopper."""
INSTRUCTIONS = ("HGMMA", "IGMMA", "UTMALDG")
"""Warp-group products of bfloat16 and of int8, loads by the tensor memory accelerator."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """A kernel in one of its configurations."""

    name: str
    kernel: Any
    types: dict[str, str]  # of the pointers and descriptors
    constants: dict[str, Any]
    num_warps: int = 4
    num_stages: int = 2
    wanted: tuple[str, ...] = ()  # instructions

    @property
    def signature(self) -> dict[str, str]:
        """Types of all arguments: what is not a pointer or a constant is an int32, or a float32 by its name."""
        scalars = {"scale_log2": "fp32"}
        names = self.kernel.arg_names
        return {n: "constexpr" if n in self.constants else self.types.get(n, scalars.get(n, "i32")) for n in names}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a build came to."""

    registers: int
    spilled: int  # bytes stored and loaded
    shared: int  # bytes
    instructions: dict[str, int] = field(default_factory=dict)

    def problems(self, wanted: tuple[str, ...]) -> list[str]:
        """Say what is wrong with it."""
        found = [f"no {name}" for name in wanted if not self.instructions.get(name)]
        if self.spilled:
            found.append(f"spills {self.spilled} bytes")
        if self.shared > SHARED_LIMIT:
            found.append(f"takes {self.shared} bytes of shared memory, there are {SHARED_LIMIT}")
        return found


def builds() -> Iterator[Build]:
    """Yield what is shipped: every tile that launchers choose, with cameras, for the head widths in use."""
    for head_dim in HEAD_DIMS:
        for tokens in (12, 48, 880):
            for keys in ("bf16", "plain", "i8"):
                for tma in (True, False):
                    yield attention_build(tokens, head_dim, keys=keys, tma=tma)
        yield from _gather_builds(head_dim)


def attention_build(tokens: int, head_dim: int, *, keys: str, tma: bool) -> Build:
    """Return ``memory_attention`` with the tile that it takes for latents of this many tokens.

    Keys are ``bf16`` or ``i8`` in two forms, or ``plain``: bfloat16 of one form, turned on reading.
    """
    quantised, turned = keys == "i8", keys == "plain"
    tile = attention.tile_for(tokens, head_dim, quantised=quantised, turned=turned, tma=tma)
    dtype, box = "i8" if quantised else "bf16", f"[1, {tile.block_n}, {head_dim}]"
    tables = ("p_cos", "p_sin", "p_relative", "p_change", "p_last", "p_mean", "p_scale", "p_space_cos", "p_space_sin")
    return Build(
        name=f"memory_attention-{tokens}x{head_dim}-{keys}-{'tma' if tma else 'pointers'}",
        kernel=attention._memory_attention_fwd_kernel,
        types={
            "p_q": "*bf16",
            "p_out": "*bf16",
            "p_table": "*i32",
            **dict.fromkeys(tables, "*fp32"),
            "p_k": f"tensordesc<{dtype}{box}>" if tma else f"*{dtype}",
            "p_v": f"tensordesc<bf16{box}>" if tma else "*bf16",
        },
        constants={
            "HEAD_DIM": head_dim,
            "FORMS": 1 if turned else 2,
            "BRANCHES": 2,
            "INT8": quantised,
            "SPACE": turned,
            "SCALE_BLOCK": SCALE_BLOCK,
            "TMA": tma,
            "DOT": tl.bfloat16,
            "BM": tile.block_m,
            "BN": tile.block_n,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        wanted=("HGMMA", *(("IGMMA",) if quantised else ()), *(("UTMALDG",) if tma else ())),
    )


def _gather_builds(head_dim: int) -> Iterator[Build]:
    """Yield ``reframe_gather`` for every kind of keys."""
    names = ("p_cos", "p_sin", "p_matrix", "p_mean", "p_scale", "p_space_cos", "p_space_sin")
    for keys in ("bf16", "plain", "i8"):
        yield Build(
            name=f"reframe_gather-{head_dim}-{keys}",
            kernel=gather._reframe_gather_fwd_kernel,
            types={
                **dict.fromkeys(names, "*fp32"),
                "p_k": "*i8" if keys == "i8" else "*bf16",
                "p_v": "*bf16",
                "p_keys": "*bf16",
                "p_values": "*bf16",
                "p_table": "*i32",
            },
            constants={
                "HEAD_DIM": head_dim,
                "FORMS": 2 - (keys == "plain"),
                "BRANCHES": 2,
                "INT8": keys == "i8",
                "SPACE": keys == "plain",
                "SCALE_BLOCK": SCALE_BLOCK,
                "BLOCK": gather.BLOCK,
            },
        )


def compile_build(build: Build) -> Report:
    """Compile for sm_90 and read registers and spills off ptxas, instructions off the machine code."""
    names, signature = build.kernel.arg_names, build.signature
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature[n].startswith("*")}
    constants = {(names.index(name),): value for name, value in build.constants.items()}
    compiled = triton.compile(
        ASTSource(build.kernel, signature, constexprs=constants, attrs=aligned),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": build.num_warps, "num_stages": build.num_stages, "enable_fp_fusion": True},
    )
    tools = triton.knobs.nvidia
    with tempfile.TemporaryDirectory() as folder:
        ptx, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        ptx.write_text(compiled.asm["ptx"])
        cubin.write_bytes(compiled.asm["cubin"])
        log = _run(tools.ptxas.path, "-v", "-arch=sm_90a", str(ptx), "-o", str(Path(folder, "again"))).stderr
        code = _run(tools.cuobjdump.path, "-sass", str(cubin)).stdout
    return Report(
        registers=int(_number(r"Used (\d+) registers", log)),
        spilled=_number(r"(\d+) bytes spill stores", log) + _number(r"(\d+) bytes spill loads", log),
        shared=compiled.metadata.shared,
        instructions={name: len(re.findall(rf"\b{name}\b", code)) for name in INSTRUCTIONS},
    )


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, f"{pattern!r} not in {text!r}"
    return int(found[1])


def main(arguments: list[str]) -> int:
    """Compile all builds, or those whose names begin with one of those given, and print a table; 1 if one is unfit."""
    parser = argparse.ArgumentParser(prog="python -m worldenv_kernels.aot", description=__doc__)
    parser.add_argument("names", nargs="*", help="what names begin with; all by default")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    given = parser.parse_args(arguments)
    names: list[str] = given.names
    if triton.knobs.runtime.interpret:
        print("TRITON_INTERPRET=1 is set and nothing can be compiled; unset it")
        return 1
    chosen = [build for build in builds() if not names or build.name.startswith(tuple(names))]
    if not chosen:
        print(f"no configuration begins with {', '.join(names)}; there are {', '.join(b.name for b in builds())}")
        return 1
    failed = 0
    rows: list[list[str | int]] = []
    print(f"{'configuration':44} warps stages regs spill shared " + " ".join(INSTRUCTIONS))
    for build in chosen:
        report = compile_build(build)
        problems = report.problems(build.wanted)
        failed += bool(problems)
        found = " ".join(f"{report.instructions[name]:{len(name)}}" for name in INSTRUCTIONS)
        print(
            f"{build.name:44} {build.num_warps:5} {build.num_stages:6} {report.registers:4} {report.spilled:5} "
            f"{report.shared:6} {found}  {'; '.join(problems) or 'ok'}",
            flush=True,
        )
        rows.append(
            [
                build.name,
                build.num_warps,
                build.num_stages,
                report.registers,
                report.spilled,
                report.shared,
                *(report.instructions[name] for name in INSTRUCTIONS),
            ]
        )
    if given.out is not None:
        _write(given.out, rows)
    return int(bool(failed))


def _write(path: Path, rows: list[list[str | int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        columns = ["configuration", "warps", "stages", "registers", "spilled_bytes", "shared_bytes", *INSTRUCTIONS]
        csv.writer(file).writerows([columns, *rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
