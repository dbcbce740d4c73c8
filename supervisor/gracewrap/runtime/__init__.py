"""Waits for signals and deadlines, and carries out what the policy decides."""
