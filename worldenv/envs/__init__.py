"""Gymnasium and Stable-Baselines3 shells over one batched core."""
