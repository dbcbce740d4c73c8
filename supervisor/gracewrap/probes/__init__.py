"""The kinds of probes, one module each (base.py: what they have in common).

A probe reports what it sees; policy/ decides what follows from that.
"""
