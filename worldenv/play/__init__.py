"""Looking at worlds: rollouts along a path, what the memory retrieved when."""
