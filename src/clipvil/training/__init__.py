"""Training: typed recipes, one loop, whole-or-absent checkpoints, step-exact resume."""
