"""Networks: the causal VAE, the world transformer, and what they share."""
