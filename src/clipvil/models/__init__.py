"""Models that sit on top of visual grids: one file a model."""
