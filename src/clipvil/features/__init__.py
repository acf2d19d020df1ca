"""Features: an encoder runs once per picture, ever, and its grids live in a store."""
