"""Measures gracewrap and its peers.

`python -m benchmarks` runs all measurements; with --table it prints the last results.
"""
