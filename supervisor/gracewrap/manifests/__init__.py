"""Reads the manifests that run gracewrap, and finds what in them would lose work in a stop."""
