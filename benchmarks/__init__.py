"""Measurements of gracewrap beside its peers.  `python -m benchmarks` runs them, `--table` shows
the last results."""
