"""Parses: one module for each kind of value."""
