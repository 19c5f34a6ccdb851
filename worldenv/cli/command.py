"""The ``worldenv`` command. Each subcommand imports what it needs, so that ``--help`` stays fast."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .making import export, record, train
from .scoring import bench_data, evaluate, verify_reference
from .stepping import demo, info, rollout
from .timing import bench

COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": demo,
    "record": record,
    "train": train,
    "eval": evaluate,
    "rollout": rollout,
    "bench": bench,
    "bench-data": bench_data,
    "export": export,
    "info": info,
    "verify-reference": verify_reference,
}
GOING_ON = ("eval", "record")
"""Commands that go on where they were interrupted; ``train`` says itself from which step ``--resume`` does."""


def usage() -> str:
    """List the commands."""
    lines = [f"  {name:17s} {(function.__doc__ or '').strip()}" for name, function in COMMANDS.items()]
    return "usage: worldenv COMMAND ...\n\n" + "\n".join(lines) + "\n\nworldenv COMMAND --help explains each."


def main() -> None:
    """Run a command; an expected failure is one line on stderr and exit status 1."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name == "--version":
        from .. import __version__

        print(__version__)
        return
    if name not in COMMANDS:
        sys.exit(f"worldenv: unknown command {name!r}\n\n{usage()}")
    try:
        COMMANDS[name](arguments)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"worldenv {name}: {error}")
    except KeyboardInterrupt:
        print(f"\nworldenv {name}: interrupted{'; the same command goes on' * (name in GOING_ON)}", file=sys.stderr)
        sys.exit(130)
