"""Recorded clips: the shard format, the recorder, and windows for training."""
