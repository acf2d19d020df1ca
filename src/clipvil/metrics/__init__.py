"""Metrics: pure functions on plain values, equal to the official scripts where there are any."""
