"""What is imported while the command runs, a module at a time: an import of many at once would
leave signals waiting for it."""

from __future__ import annotations

# All that h11 imports, in an order in which only h11 itself takes longer than a few milliseconds.
H11 = (
    *(
        "types",
        "operator",
        "_collections_abc",
        "collections",
        "functools",
        "enum",
        "re",
        "contextlib",
        "warnings",
        "typing",
    ),
    *(
        "copy",
        "ast",
        "opcode",
        "dis",
        "tokenize",
        "linecache",
        "importlib.machinery",
        "inspect",
        "dataclasses",
        "h11",
    ),
)
