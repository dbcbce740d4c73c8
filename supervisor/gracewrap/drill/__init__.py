"""Rehearses a stop: starts a command as it would run, loads it, stops it, says what was lost."""
