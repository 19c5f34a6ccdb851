"""``make faults``: kills, full disks, dead workers and two runs in one folder; what came of them as JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from worldenv.base.files import save_text
from worldenv.base.interrupts import ending
from worldenv.base.log import console, git_revision, hardware

from .disks import WRITTEN, run_full, serve_full, small_disk
from .jobs import JOBS, make_material
from .kills import Counts, run_kills, two_at_once
from .processes import end_all


def main() -> int:
    """Run what was asked for; the exit status is 1 if anything went wrong."""
    asked = argparse.ArgumentParser(prog="make faults", description=__doc__)
    asked.add_argument("--kills", type=int, default=50, help="of each command")
    asked.add_argument("--disks", type=int, default=3, help="places at which the disk of each command is full")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--minutes", type=float, default=60.0, help="after these nothing more is begun")
    asked.add_argument("--out", type=Path, required=True, help="JSON file")
    names = [*JOBS, *(f"disk: {what.name}" for what in WRITTEN), "disk: serve"]
    asked.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="some, beside what is there")
    given = asked.parse_args()
    chosen = given.only or names
    began, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="worldenv-faults-"))
    report: dict[str, Any] = {"hardware": hardware(), "git": git_revision(), "seed": given.seed}
    report |= {"kills": {}, "two_at_once": {}, "full_disks": {}}
    if given.only and given.out.exists():
        report = json.loads(given.out.read_text()) | {"hardware": report["hardware"], "git": report["git"]}
    try:
        material = make_material(folder / "material")
        for name, job in ((name, job) for name, job in JOBS.items() if name in chosen):
            if time.monotonic() - began > 60 * given.minutes:
                break
            place = folder / name.replace(" ", "-")
            counts = Counts()
            try:
                run_kills(job, material, place, counts, kills=given.kills, seed=given.seed)
            finally:
                report["kills"][name] = counts.summary()
                save_text(given.out, json.dumps(report, indent=1) + "\n")
            wanted = job.result(place / "whole")
            report["two_at_once"][name] = {"runs": 2, "wrong": two_at_once(job, material, place, wanted)}
            console.print(f"{name}: {report['kills'][name]} {report['two_at_once'][name]}", markup=False)
            save_text(given.out, json.dumps(report, indent=1) + "\n")
        with small_disk(folder / "disk") as disk:
            report["disk"] = (
                "a small tmpfs, of serve a limit on the size of files"
                if disk is not None
                else "a limit on the size of files"
            )
            for what in (what for what in WRITTEN if f"disk: {what.name}" in chosen):
                if time.monotonic() - began > 60 * given.minutes:
                    break
                place = folder / f"full-{what.name.replace(' ', '-')}"
                wrong = run_full(what, material, place, disk, times=given.disks, seed=given.seed)
                report["full_disks"][what.name] = {"times": given.disks, "wrong": wrong}
                console.print(f"full disk, {what.name}: {report['full_disks'][what.name]}", markup=False)
                save_text(given.out, json.dumps(report, indent=1) + "\n")
        if "disk: serve" in chosen:
            report["full_disks"]["serve"] = {"times": 1, "wrong": serve_full(material, folder / "full-serve")}
            console.print(f"full disk, serve: {report['full_disks']['serve']}", markup=False)
    finally:
        end_all()
        shutil.rmtree(folder, ignore_errors=True)
    report["minutes"] = round((time.monotonic() - began) / 60, 1)
    save_text(given.out, json.dumps(report, indent=1) + "\n")
    parts = [*report["kills"].values(), *report["two_at_once"].values(), *report["full_disks"].values()]
    return int(any(part["wrong"] for part in parts))


if __name__ == "__main__":
    with ending():
        raise SystemExit(main())
