"""Foundations that know nothing of models: the dynamics protocol, configuration, checkpoints, logs, generators."""
