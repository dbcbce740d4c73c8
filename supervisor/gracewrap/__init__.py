"""gracewrap: wrap a command and stop it gracefully, within one budget."""

__version__ = "0.1.0"
