"""For people: help, check, init.  The only home of rich and tomli-w; never loaded to wrap a
command."""
