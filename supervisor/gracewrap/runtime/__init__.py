"""Runs programs: the loop, and everything that lives beside a command while it runs."""
