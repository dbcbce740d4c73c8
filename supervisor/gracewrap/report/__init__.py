"""Tells: log lines, the timeline of the stop, the summary, the report file.  Decides nothing, and
never holds up the stop."""
