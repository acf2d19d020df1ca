"""Checkpoints that others released, brought into our own form: one file a source."""
