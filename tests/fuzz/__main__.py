"""``python -m tests.fuzz``: every border for its share of the time, each in a process of its own; counts as JSON."""

from __future__ import annotations

import argparse
import faulthandler
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fuzz.case import anywhere
from tests.fuzz.registry import BORDERS
from tests.fuzz.run import fuzz
from worldenv.base.files import save_text
from worldenv.base.log import git_revision, hardware

LIMIT = 60.0
"""Seconds after which a case that Python cannot stop ends its process."""
SHOWN = 40
"""Examples of each wrong verdict that the file keeps."""


def main() -> None:
    """Fuzz all borders, or one in this process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all borders together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of counts")
    parser.add_argument("--borders", nargs="*", default=list(BORDERS), choices=list(BORDERS))
    parser.add_argument("--together", action="store_true", help="in one process, which starts sooner; a crash ends all")
    parser.add_argument("--one", choices=list(BORDERS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    seconds = 60 * asked.minutes / len(asked.borders)
    if asked.one:
        print(json.dumps(_one(asked.one, 60 * asked.minutes, asked.seed)), file=sys.stderr)
        return
    fuzz_one = _one if asked.together else _apart
    found = {}
    for name in asked.borders:
        found[name] = fuzz_one(name, seconds, asked.seed)
        print(
            f"{name}: {found[name]['judged']}, {found[name]['unjudged']} either; wrong {found[name]['wrong']}",
            flush=True,
        )
    wrong = {name: one["wrong"] for name, one in found.items() if one["wrong"]}
    report = {
        "format": 1,
        "command": f"python -m tests.fuzz --minutes {asked.minutes:g}{' --together' * asked.together}",
        "minutes": asked.minutes,
        "seed": asked.seed,
        "git": git_revision(),
        "hardware": hardware(),
        "cases": sum(sum(one["judged"].values()) for one in found.values()),
        "borders": found,
    }
    if asked.out:
        save_text(asked.out, json.dumps(report, indent=1) + "\n")
    print(f"{report['cases']} cases with an oracle; wrong: {wrong or 'none'}")
    sys.exit(1 if wrong else 0)


def _one(border: str, seconds: float, seed: int) -> dict[str, Any]:
    """Fuzz a border here."""
    faulthandler.dump_traceback_later(seconds + 120 + LIMIT, exit=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        tally = fuzz(border, Path(folder), seconds=seconds, seed=seed)
    return {
        "judged": dict(tally.judged),
        "unjudged": tally.unjudged,
        "wrong": dict(tally.wrong),
        "examples": {kind: some[:SHOWN] for kind, some in tally.examples.items()},
        "slowest": round(tally.slowest, 2),
    }


def _apart(border: str, seconds: float, seed: int) -> dict[str, Any]:
    """Fuzz a border in a process of its own; one that dies is a wrong verdict."""
    words = ["-m", "tests.fuzz", "--one", border, "--minutes", str(seconds / 60), "--seed", str(seed)]
    ended = subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines = ended.stderr.strip().splitlines()
    if ended.returncode or not lines:
        return {
            "judged": {},
            "unjudged": 0,
            "wrong": {"crash": 1},
            "examples": {"crash": [anywhere(line) for line in lines[-20:]]},
            "slowest": 0.0,
        }
    found: dict[str, Any] = json.loads(lines[-1])
    return found


if __name__ == "__main__":
    main()
