"""Pictures of a stop on one time axis: the one that would be, and the one that was."""
