"""`gracewrap schema`: the JSON Schema of gracewrap.toml."""

from __future__ import annotations

from gracewrap.cli.subcommand import Arguments, Subcommand


def show(arguments: Arguments) -> int:
    """Print it; return the exit status."""
    import json

    from gracewrap.config.json_schema import schema

    print(json.dumps(schema(), indent=2))
    return 0


SCHEMA = Subcommand(
    "schema",
    """\
gracewrap schema prints the JSON Schema of gracewrap.toml, by which an editor
completes and checks it. A file that starts with "#:schema ./gracewrap.schema.json"
is checked by taplo and by editors that use it (Even Better TOML).
""",
    ("",),
    (),
    """\
gracewrap schema > gracewrap.schema.json
taplo check --schema "file://$PWD/gracewrap.schema.json" gracewrap.toml
""",
    "  0    it is printed\n",
    show,
)
