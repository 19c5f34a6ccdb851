"""The borders that are fuzzed: what comes from outside, by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.borders import (
    agent_commands,
    agents,
    commands,
    documents,
    episodes,
    keywords,
    lerobot,
    messages,
    minari,
    names,
    paths,
    pictures,
    runs,
    shards,
    states,
    videos,
    worlds,
)
from tests.fuzz.case import Case

Border = Callable[[Path], st.SearchStrategy[Case]]
"""Makes valid files in a folder of its own, and cases of them."""
BORDERS: Mapping[str, Border] = {
    "world": worlds.world,
    "settings": worlds.settings,
    "state": states.state,
    "shard": shards.shard,
    "video": videos.video,
    "parquet": lerobot.parquet,
    "minari": minari.minari,
    "trajectory": paths.trajectory,
    "pose string": paths.pose_string,
    "clip": paths.clip,
    "picture": pictures.picture,
    "manifest": documents.manifest,
    "report": documents.report,
    "command": commands.command,
    "keyword": keywords.keyword,
    "episode": episodes.episode,
    "message": messages.message,
    "checkpoint": runs.checkpoint,
    "policy": agents.policy,
    "comparison": agents.comparison,
    "agents' command": agent_commands.agent_command,
    "name": names.name,
}
