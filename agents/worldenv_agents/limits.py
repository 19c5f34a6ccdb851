"""The largest settings that a policy is learned with; with larger ones nothing is."""

MOST_RATE, MOST_WEIGHT = 1.0, 1e6
"""Of a learning rate, and of the weight of a bonus; with larger ones nothing but infinite weights is learned."""
MOST_WEIGHTS = 2**26
"""Of a policy's layers behind the picture."""
MOST_SEED = 2**32 - 1
"""Seeds of Stable-Baselines3's have 32 bits."""
