"""Datasets: one file a published corpus; each yields typed records and nothing else."""
