"""What was asked of ``worldenv make``, and how many steps the clock has given each stage: a run goes on by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..base.config import difference, to_dict
from ..base.files import save_text
from .config import STAGES, MakeConfig, recordings

PLAN = "make.json"


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
        try:
            written = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON ({error}); was it edited? Use another --out") from None
        known = json.loads(json.dumps(to_dict(MakeConfig()))) | written["asked"]  # what it did not know yet is as usual
        changed = difference({name: value for name, value in known.items() if name != "workers"}, asked)
        if changed is not None:
            raise ValueError(f"{out} was begun with another {changed}; use the same, or another --out")
        return cls(path, asked, written["steps"])

    def note(self, stage: str, steps: int) -> None:
        """Keep how many steps a stage takes."""
        self.steps[stage] = steps
        self.save()

    def save(self) -> None:
        """Write it."""
        save_text(self.path, json.dumps({"asked": self.asked, "steps": self.steps}, indent=1))
