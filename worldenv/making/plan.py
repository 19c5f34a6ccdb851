"""What was asked of ``worldenv make``, and how many steps the clock has given each stage: a run goes on by it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from ..base.config import difference, to_dict
from ..base.documents import read_table
from ..base.files import save_text
from ..base.log import JsonlLog
from .config import DISTIL, STAGES, MakeConfig, recordings
from .distil import VERDICT

PLAN = "make.json"
_AFTER = ("heads", DISTIL, "eval")
"""Folders of what is made of the transformer."""


class Plan:
    """What was asked, and how many steps the clock has given each stage; kept in a file, so that a run goes on."""

    def __init__(self, path: Path, asked: dict[str, Any], steps: dict[str, int]) -> None:
        self.path, self.asked, self.steps = path, asked, steps

    @classmethod
    def load(cls, out: Path, env: str, config: MakeConfig) -> Plan:
        """Read the plan of a folder, or begin one.

        Raises:
            ValueError: if the folder is another environment's, or was asked for otherwise.
        """
        path, asked = out / PLAN, json.loads(json.dumps({"env": env, **to_dict(config)}))
        asked.pop("workers")  # changes nothing
        if not path.is_file():
            there = [name for name in (*STAGES, "world", *recordings(config, env)) if (out / name).exists()]
            if there:
                raise ValueError(f"{out} holds {', '.join(there)} of something else; use another --out")
            plan = cls(path, asked, {})
            plan.save()
            return plan
        written = read_table(path)
        if not all(isinstance(written.get(name), dict) for name in ("asked", "steps")):
            raise ValueError(f"{path}: no plan of worldenv make, with tables asked and steps; use another --out")
        known = json.loads(json.dumps(to_dict(MakeConfig()))) | written["asked"]  # what it did not know yet is as usual
        hours = known["hours"] if isinstance(known["hours"], int | float) else math.inf
        compared = asked | {"hours": hours} if config.rounds == 1 and hours < config.hours else asked
        changed = difference({name: value for name, value in known.items() if name != "workers"}, compared)
        if changed is not None:
            longer = "longer ones go on, " if (changed, config.rounds) == ("hours", 1) else ""
            raise ValueError(f"{out} was begun with another {changed}; {longer}use the same, or another --out")
        plan = cls(path, asked | {"hours": hours}, written["steps"])
        if hours < config.hours:
            plan.lengthen(config.hours)
        return plan

    def lengthen(self, hours: float) -> None:
        """Give the transformer what more hours there are, all of the VAE's share too, which stays as it is.

        What follows it is made again; until then the old world stays beside, as ``world-before``.
        """
        out, more = self.path.parent, hours - self.asked["hours"]
        lines = [line for line in JsonlLog.read(out / "causal" / "log.jsonl") if line.get("hours")]
        if "causal" in self.steps and lines:
            per_step = lines[-1]["hours"] / lines[-1]["step"]
            self.steps["causal"] += int((STAGES["causal"] + STAGES["vae"]) * more / per_step)
        if (out / "world").exists():
            shutil.rmtree(out / "world-before", ignore_errors=True)
            (out / "world").rename(out / "world-before")
        for name in (*_AFTER, VERDICT, "summary.json"):
            shutil.rmtree(out / name, ignore_errors=True)
            (out / name).unlink(missing_ok=True)
            self.steps.pop(name, None)
        self.asked["hours"] = hours
        self.save()

    def note(self, stage: str, steps: int) -> None:
        """Keep how many steps a stage takes."""
        self.steps[stage] = steps
        self.save()

    def save(self) -> None:
        """Write it."""
        save_text(self.path, json.dumps({"asked": self.asked, "steps": self.steps}, indent=1))
