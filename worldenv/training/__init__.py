"""Training: one loop, one file per stage; a stage starts from a world and writes a world."""
