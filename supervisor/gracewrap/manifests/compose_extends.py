"""What a Compose service takes from the one that it extends, in its file or one beside it."""

from __future__ import annotations

import os

from gracewrap.manifests import parse_text
from gracewrap.manifests.parse_text import Node, Unreadable
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from gracewrap.manifests.parse_text import File

DEEPEST = 20  # services that extend one another
REPLACED = ("command", "entrypoint")  # a list of any other key is added to that of the base


class Extended(Record):
    """A service with what it takes from others."""

    node: Node
    unread: str = ""  # where the rest of it is, if that cannot be read


def resolved(file: File, root: Node, one: Node, depth: int = 0) -> Extended:
    """Return a service of a file's document with all that it extends."""
    entry = one.get("extends")
    if entry is None:
        return Extended(one)
    name = entry.text if entry.kind == "scalar" else entry.string("service") or ""
    where = entry.string("file") if entry.kind == "map" else None
    found = (file, root) if where is None else _beside(file, where)
    base = found[1].get("services", name) if found is not None else None
    if found is None or base is None or base.kind != "map" or depth >= DEEPEST:
        return Extended(one, f"{where}, service {name}" if where else f"service {name}")
    rest = resolved(*found, base, depth + 1)
    theirs = rest.node if where is None else _moved(rest.node, entry, {})
    return Extended(_merged(one, theirs), rest.unread)


def _beside(file: File, name: str) -> tuple[File, Node] | None:
    """Return a file that is named in another one, and its document; None: it cannot be read."""
    path = os.path.join(os.path.dirname(file.name), name)
    if file.name == "-" or not os.path.isfile(path):  # a pipe or a device may never end
        return None
    try:
        other = parse_text.read(path)
    except Unreadable:
        return None
    return (other, other.documents[0]) if other.documents else None


def _moved(node: Node, to: Node, made: dict[int, Node]) -> Node:
    """Return a node of another file, shown at the line of *to*; no edit can be made in it."""
    if id(node) not in made:
        copy = made[id(node)] = node.copy()
        copy.line, copy.column, copy.start, copy.end = to.line, to.column, -1, -1
        copy.items = [_moved(one, to, made) for one in node.items]
        copy.pairs = [(_moved(name, to, made), _moved(value, to, made))
                      for name, value in node.pairs]  # fmt: skip
    return made[id(node)]


def _merged(one: Node, base: Node) -> Node:
    """Return a mapping with what it says and, after that, what its base says."""
    made, own = one.copy(), _flat(one)
    for key, (name, value) in _flat(base).items():
        there = own.get(key)
        own[key] = (there[0], _both(key, there[1], value)) if there is not None else (name, value)
    made.pairs = list(own.values())
    return made


def _flat(one: Node) -> dict[str, tuple[Node, Node]]:
    """Return the pairs of a mapping by their keys, with those that << merges in."""
    found = {name.text: (name, value) for name, value in one.pairs if name.text != "<<"}
    for name, value in one.pairs:
        if name.text == "<<":
            for merged in value.items or [value]:
                for key, pair in _flat(merged).items():
                    found.setdefault(key, pair)
    return found


def _both(key: str, own: Node, base: Node) -> Node:
    """Return the value of a key that both have."""
    if key == "environment":
        return _environment(own, base)
    if own.kind == base.kind == "map":
        return _merged(own, base)
    if own.kind == base.kind == "list" and key not in REPLACED:
        made = own.copy()
        made.items = [*own.items, *base.items]
        return made
    return own


def _environment(own: Node, base: Node) -> Node:
    """Return the variables of both, each of which is a mapping or a list of NAME=VALUE."""
    names = {*_flat(own), *(item.text.partition("=")[0] for item in own.items)}
    made = own.copy()
    made.items = [*own.items, *(item for item in base.items
                                if item.text.partition("=")[0] not in names)]  # fmt: skip
    theirs = [pair for name, pair in _flat(base).items() if name not in names]
    made.pairs = [*_flat(own).values(), *theirs]
    return made
