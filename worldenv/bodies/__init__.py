"""What agents act with: an action and the present moment become commands."""
