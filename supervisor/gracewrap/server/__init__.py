"""Serves health, metrics, status and control over HTTP/1.1 (h11), in the loop of the runtime."""
