"""For people: help, check, init.  The only home of typer, rich and tomli-w; never loaded to wrap a
command."""
