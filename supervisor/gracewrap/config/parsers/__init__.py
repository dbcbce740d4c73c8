"""One module for each kind of value that a setting takes: what is written becomes what is meant."""
