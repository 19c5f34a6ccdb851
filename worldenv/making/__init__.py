"""From an environment to a world, by one command."""
