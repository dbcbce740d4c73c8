"""YAML and JSON as nodes that know their lines, and where in the text they stand.

Nothing is constructed: a document is a tree of strings, lists and mappings.  Aliases share their
nodes, and what they would expand to is counted, so that a few lines cannot become a billion nodes.
"""

from __future__ import annotations

import json
import os
import re
import stat

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

LARGEST = 4 << 20  # bytes of a manifest: etcd takes 1.5 MiB for one object
MOST_NODES = 200_000
DEEPEST = 100
WITHOUT = "it needs PyYAML: pip install PyYAML"
_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}


class Unreadable(Exception):
    """A file cannot be read as a manifest; says why, and at which line (0: not known)."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(why)
        self.line = line


class File(Record):
    """A manifest: its name as it was given, its text, and its documents."""

    name: str
    text: str
    documents: tuple[Node, ...]
    is_json: bool = False  # so that an edit has to be


class Node:
    """A node: a scalar (*text*), a list (*items*) or a mapping (*pairs*).

    *line* counts from 1; *start* and *end* are offsets in the text, *column* that of the start in
    its line.  A *start* below 0: it is in another text.
    """

    __slots__ = (
        "column", "end", "flow", "items", "kind", "line", "pairs", "plain", "size", "start", "text",
    )  # fmt: skip

    line: int
    column: int
    start: int
    end: int

    def __init__(self, kind: str, event: Any) -> None:
        mark = event.start_mark
        self.kind, self.line, self.column = kind, mark.line + 1, mark.column
        self.start, self.end = mark.index, event.end_mark.index
        self.text, self.plain, self.flow, self.size = "", False, False, 1
        self.items: list[Node] = []
        self.pairs: list[tuple[Node, Node]] = []

    def copy(self) -> Node:
        """Return a node that says the same at the same place."""
        made = Node.__new__(Node)
        for slot in Node.__slots__:
            setattr(made, slot, getattr(self, slot))
        return made

    @property
    def is_null(self) -> bool:
        """Whether it is nothing: null, or empty."""
        return self.kind == "scalar" and self.plain and self.text in ("", "~", "null")

    def get(self, *path: str) -> Node | None:
        """Return what stands below these keys, or None; also what << merges in.

        null is as nothing, as for all platforms: `docker compose config` writes entrypoint: null.
        """
        found: Node | None = self
        for key in path:
            found = found.pair(key)[1] if found is not None else None
        return found if found is None or not found.is_null else None

    def pair(self, key: str) -> tuple[Node | None, Node | None]:
        """Return the key's own node and its value; the key's last one counts."""
        for name, value in reversed(self.pairs):
            if name.text == key and name.kind == "scalar":
                return name, value
        for name, value in self.pairs:
            if name.text == "<<":
                for merged in value.items or [value]:
                    if (found := merged.pair(key))[1] is not None:
                        return found
        return None, None

    def mapping(self) -> Iterator[tuple[str, Node]]:
        """Yield each key and its value, also what << merges in."""
        seen: set[str] = set()
        for name, value in self.pairs:
            if name.text != "<<" and name.text not in seen:
                seen.add(name.text)
                yield name.text, value
        for name, value in self.pairs:
            if name.text == "<<":
                for merged in value.items or [value]:
                    for key, inner in merged.mapping():
                        if key not in seen:
                            seen.add(key)
                            yield key, inner

    def string(self, *path: str) -> str | None:
        """Return the scalar below these keys as it is written, or None."""
        found = self.get(*path)
        if found is None or found.kind != "scalar" or found.is_null:
            return None
        return found.text

    def number(self, *path: str) -> float | None:
        """Return the number below these keys, or None."""
        try:
            return float(self.string(*path) or "")
        except ValueError:
            return None

    def truth(self, *path: str) -> bool | None:
        """Return the boolean below these keys, or None."""
        word = (self.string(*path) or "").lower()
        return True if word in _TRUE else False if word in _FALSE else None

    def strings(self, *path: str) -> tuple[str, ...] | None:
        """Return the list of strings below these keys, or None."""
        found = self.get(*path)
        if found is None or found.kind != "list":
            return None
        return tuple(one.text for one in found.items)


def read(name: str) -> File:
    """Return a manifest; "-" is standard input.  Raises Unreadable."""
    return parse(name, _bytes(name))


def parse(name: str, data: bytes) -> File:
    """Return the manifest that these bytes are.  Raises Unreadable."""
    if b"\0" in data:
        raise Unreadable("it is not text; name a YAML or JSON file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("it is not UTF-8", data[: error.start].count(b"\n") + 1) from None
    if name.endswith((".hcl", ".nomad")):
        raise Unreadable(f"HCL is not read; write nomad job run -output {name} > job.json, and "
                         "check that")  # fmt: skip
    is_json = _is_json(text)
    return File(name, text, tuple(_documents(_as_yaml(text) if is_json else text)), is_json)


def _is_json(text: str) -> bool:
    """Return whether a text is JSON, and not YAML that begins with a brace."""
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _as_yaml(text: str) -> str:
    """Return JSON as YAML takes it, each character where it was.

    YAML has no pairs of surrogates, which is how many libraries write an emoji.
    """
    return re.sub(
        r"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)",
        lambda found: found[0] if len(found[0]) == 2 else r"\ufffd",
        text,
    )


def _bytes(name: str) -> bytes:
    try:
        fd = 0 if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            info = os.fstat(fd)
            if stat.S_ISDIR(info.st_mode):
                raise Unreadable("it is a directory; name the files in it")
            if stat.S_ISREG(info.st_mode) and info.st_size > LARGEST:
                raise _too_large(f"it has {info.st_size} bytes")
            os.set_blocking(fd, True)
            data = b""
            while part := os.read(fd, 1 << 16):
                data += part
                if len(data) > LARGEST:
                    raise _too_large(f"it has more than {LARGEST} bytes")
            return data
        finally:
            if fd:
                os.close(fd)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None


def _too_large(said: str) -> Unreadable:
    return Unreadable(f"{said}, and a manifest at most {LARGEST}; is it the right file?")


def _documents(text: str) -> Iterator[Node]:
    try:
        import yaml
    except ImportError:
        raise Unreadable(WITHOUT) from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from _Builder().build(yaml.parse(text, Loader=loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        if "{{" in text:
            line = text[: text.index("{{")].count("\n") + 1
            problem += "; is it a template? Check what it renders to: helm template CHART"
        raise Unreadable(f"it is neither YAML nor JSON: {problem}", line) from None


class _Builder:
    """Builds nodes of a parser's events, with a limit for each way of becoming too much."""

    def __init__(self) -> None:
        self._open: list[tuple[Node, list[Node]]] = []  # collections, and what is in them so far
        self._anchors: dict[str, Node] = {}
        self._done: set[int] = set()  # the nodes that are complete
        self._count = 0

    def build(self, events: Any) -> Iterator[Node]:
        """Yield the root of each document that has one."""
        for event in events:
            what = type(event).__name__
            line = event.start_mark.line + 1
            if what == "DocumentStartEvent":
                self._anchors.clear()
            elif what == "AliasEvent":
                yield from self._complete(self._alias(event.anchor, line), line)
            elif what == "ScalarEvent":
                node = self._node("scalar", event)
                node.text, node.plain = event.value, not event.style
                yield from self._complete(node, line)
            elif what in ("SequenceStartEvent", "MappingStartEvent"):
                if len(self._open) >= DEEPEST:
                    raise Unreadable(f"it is nested deeper than {DEEPEST} levels", line)
                node = self._node("list" if what.startswith("S") else "map", event)
                node.flow = bool(event.flow_style)
                self._open.append((node, []))
            elif what in ("SequenceEndEvent", "MappingEndEvent"):
                node, inner = self._open.pop()
                node.end = event.end_mark.index
                self._fill(node, inner)
                yield from self._complete(node, line)

    def _node(self, kind: str, event: Any) -> Node:
        self._count += 1
        if self._count > MOST_NODES:
            raise Unreadable(f"it has more than {MOST_NODES} nodes; is it the right file?")
        node = Node(kind, event)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, line: int) -> Node:
        node = self._anchors.get(anchor)
        if node is None:
            raise Unreadable(f"the alias *{anchor} has no anchor before it", line)
        if id(node) not in self._done:
            raise Unreadable(f"the alias *{anchor} stands inside of what it means", line)
        return node

    @staticmethod
    def _fill(node: Node, inner: list[Node]) -> None:
        if node.kind == "list":
            node.items = inner
        else:
            node.pairs = list(zip(inner[::2], inner[1::2]))
            _refuse_duplicates(node)
        node.size = 1 + sum(one.size for one in inner)

    def _complete(self, node: Node, line: int) -> Iterator[Node]:
        self._done.add(id(node))
        if node.size > MOST_NODES:
            raise Unreadable(
                f"its aliases expand to more than {MOST_NODES} nodes; no manifest needs so many",
                line,
            )
        if self._open:
            self._open[-1][1].append(node)
        elif node.kind != "scalar":
            yield node


def _refuse_duplicates(node: Node) -> None:
    """Raise Unreadable if a key is there twice: Compose refuses that, and others take one of them
    without a word."""
    seen: dict[str, int] = {}
    for key, _ in node.pairs:
        if key.kind != "scalar" or key.text == "<<":
            continue
        if key.text in seen:
            raise Unreadable(
                f'the key "{key.text}" is there twice, also in line {seen[key.text]}: keep one',
                key.line,
            )
        seen[key.text] = key.line
