"""The protocol that simulators and generated worlds share, and what goes through it."""
