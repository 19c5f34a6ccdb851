"""``make faults``: kills, full disks, dead workers and two runs in one folder; what came of them as JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fuzz.case import anywhere
from worldenv.base.files import save_text
from worldenv.base.interrupts import ending
from worldenv.base.log import console, git_revision, hardware

from .disks import WRITTEN, run_full, serve_full, small_disk
from .jobs import JOBS, Job, make_material
from .kills import Counts, run_kills, two_at_once
from .processes import end_all


class Report:
    """What came of everything so far, in a file that is written after each part."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.out, self.ends, self.began = given.out, 60 * given.minutes, time.monotonic()
        self._noting = threading.Lock()
        self.git, self.told = git_revision(), dict[str, Any]()
        self.told |= {"hardware": hardware(), "git": self.git, "seed": given.seed}
        self.told |= {"kills": {}, "two_at_once": {}, "full_disks": {}}
        if given.only and given.out.exists():
            self.told = json.loads(given.out.read_text()) | {"hardware": hardware()}

    @property
    def late(self) -> bool:
        """Whether nothing more may be begun."""
        return time.monotonic() - self.began > self.ends

    def note(self, part: str, name: str, result: dict[str, Any]) -> None:
        """Keep what came of one thing."""
        wrong = [anywhere(what, Path(tempfile.gettempdir())) for what in result["wrong"]]
        console.print(f"{part}, {name}: {result}", markup=False)
        with self._noting:
            later = {} if self.git == self.told["git"] else {"git": self.git}  # what was run with ``--only``
            self.told[part][name] = result | {"wrong": wrong} | later
            self.save()

    def save(self) -> None:
        """Write the file."""
        minutes = round((time.monotonic() - self.began) / 60, 1)
        save_text(self.out, json.dumps(self.told | {"minutes": minutes}, indent=1) + "\n")

    @property
    def wrong(self) -> bool:
        """Whether anything went wrong."""
        parts = (self.told[part].values() for part in ("kills", "two_at_once", "full_disks"))
        return any(one["wrong"] for some in parts for one in some)


def run_job(job: Job, material: Path, folder: Path, report: Report, *, kills: int, seed: int) -> None:
    """Kill a job so often, then start it twice in one folder."""
    if report.late:
        return
    counts = Counts()
    try:
        run_kills(job, material, folder, counts, kills=kills, seed=seed)
    finally:
        report.note("kills", job.name, counts.summary())
    wrong = two_at_once(job, material, folder, job.result(folder / "whole"))
    report.note("two_at_once", job.name, {"runs": 2, "wrong": wrong})


def main() -> int:
    """Run what was asked for; the exit status is 1 if anything went wrong."""
    asked = argparse.ArgumentParser(prog="make faults", description=__doc__)
    asked.add_argument("--kills", type=int, default=50, help="of each command")
    asked.add_argument("--disks", type=int, default=3, help="places at which the disk of each command is full")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--workers", type=int, default=2, help="commands that are killed at the same time")
    asked.add_argument("--minutes", type=float, default=60.0, help="after these nothing more is begun")
    asked.add_argument("--out", type=Path, required=True, help="JSON file")
    names = [*JOBS, *(f"disk: {what.name}" for what in WRITTEN), "disk: serve"]
    asked.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="some, beside what is there")
    given = asked.parse_args()
    chosen, report, folder = given.only or names, Report(given), Path(tempfile.mkdtemp(prefix="worldenv-faults-"))
    try:
        material = make_material(folder / "material")
        how = {"kills": given.kills, "seed": given.seed}
        with ThreadPoolExecutor(given.workers) as pool:
            jobs = [(job, folder / name.replace(" ", "-")) for name, job in JOBS.items() if name in chosen]
            for done in [pool.submit(run_job, job, material, place, report, **how) for job, place in jobs]:
                done.result()
        with small_disk(folder / "disk") as disk:
            limit = "a limit on the size of files"
            report.told["disk"] = limit if disk is None else f"a small tmpfs, of serve {limit}"
            for what in WRITTEN:
                if f"disk: {what.name}" in chosen and not report.late:
                    place = folder / f"full-{what.name.replace(' ', '-')}"
                    wrong = run_full(what, material, place, disk, times=given.disks, seed=given.seed)
                    report.note("full_disks", what.name, {"times": given.disks, "wrong": wrong})
        if "disk: serve" in chosen and not report.late:
            report.note("full_disks", "serve", {"times": 1, "wrong": serve_full(material, folder / "full-serve")})
    finally:
        end_all()
        shutil.rmtree(folder, ignore_errors=True)
    return int(report.wrong)


if __name__ == "__main__":
    with ending():
        raise SystemExit(main())
