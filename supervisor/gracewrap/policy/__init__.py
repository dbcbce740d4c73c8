"""Decides: when which signal goes where, and which exit status comes of it.  Pure: no os, no clock;
time is an argument."""
