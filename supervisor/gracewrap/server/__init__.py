"""Answers: health, metrics, status and control, by HTTP/1.1 (h11) in the same loop."""
