"""The engine: worlds on disk, and the batched streaming rollout that steps them."""
