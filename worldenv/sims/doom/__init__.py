"""Procedural ViZDoom mazes with exact depth and goal objects, Freedoom maps."""
