"""The ``worldenv`` command: its tree, and how it ends. Commands import what they need, so that help is fast."""

from __future__ import annotations

import sys
from functools import partial

import tyro

from ..base.interrupts import answering
from ..base.objects import look_here
from ..base.said import show_any_name
from . import making, scoring, serving, stepping, timing
from .settings import REGISTRY
from .tree import Command, Group

STAGES = {name: Command(partial(making.train, name), line) for name, line in making.STAGES.items()}
SUITES = {name: Command(partial(scoring.score, name), line) for name, line in scoring.SUITES.items()}
BENCHES = {function.__name__: Command(function) for function in timing.BENCHES}
TREE = Group(
    "Generated worlds as batched Gymnasium environments. COMMAND --help explains one; --version names this version.",
    {
        "demo": Command(stepping.demo),
        "record": Command(making.record),
        "make": Command(making.make),
        "train": Group("Train one stage of a world.", {**STAGES, "pose": Command(making.train_pose)}, what="stage"),
        "eval": Group(
            "Score a world on held-out mazes.",
            {**SUITES, "ablations": Command(scoring.ablations), "compare": Command(scoring.compare)},
            what="suite",
        ),
        "rollout": Command(stepping.rollout),
        "play": Command(serving.play),
        "serve": Command(serving.serve),
        "bench": Group("Measure throughput and latency.", BENCHES, default="engine", what="measurement"),
        "bench-data": Command(scoring.bench_data),
        "export": Command(making.export),
        "push": Command(making.push),
        "info": Command(stepping.info),
        "verify-reference": Command(scoring.verify_reference),
    },
)
GOING_ON = dict.fromkeys(("eval", "record", "make"), "; the same command goes on") | {
    "train": "; the same command with --resume goes on"
}
"""What is said of an interrupted command."""


def main() -> None:
    """Run a command; an expected failure is one line on stderr and exit status 1."""
    arguments = sys.argv[1:] or ["--help"]
    name = arguments[0]
    if name == "--version":
        from .. import __version__

        print(__version__)
        return
    look_here()
    show_any_name()
    called = f"worldenv {name}" if name in TREE.commands else "worldenv"
    with answering(called, GOING_ON.get(name, "")):
        tyro.cli(TREE.choose(arguments).run, prog="worldenv", description=TREE.help, args=arguments, registry=REGISTRY)
