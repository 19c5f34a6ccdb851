"""Planners over branches of a generated world, whose decisions are carried out in its simulator."""

from .cem import CEM
from .closed_loop import run_planned
from .compare import compare_planning
from .imagine import Tree
from .mppi import MPPI
from .planner import Planner, PlannerConfig

__all__ = ["CEM", "MPPI", "Planner", "PlannerConfig", "Tree", "compare_planning", "run_planned"]
