"""Tasks: what an agent is rewarded for, as pure functions of what a world shows."""
