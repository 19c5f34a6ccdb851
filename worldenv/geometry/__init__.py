"""Cameras, rigid motions, actions and paths. Everything here is a pure function of tensors."""
