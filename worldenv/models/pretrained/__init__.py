"""Released checkpoints as configurations of our own models."""
