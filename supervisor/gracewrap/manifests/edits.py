"""Edits of a manifest's text: the rest of it, comments too, stays as it is."""

from __future__ import annotations

from gracewrap.manifests.model import Edit
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gracewrap.manifests.model import Container
    from gracewrap.manifests.parse_text import File, Node


def replace_scalar(file: File, node: Node, value: str, weight: float = 0.0) -> Edit | None:
    """Return an edit that gives a scalar another value; quotes stay, but not around a number: in
    them it would be a name, or refused."""
    if node.kind != "scalar" or node.start < 0:
        return None
    old = file.text[node.start : node.end]
    if not old:  # nothing is there, and the node begins at the colon
        space = "" if value.startswith("\n") else " "
        return Edit(node.start, node.end, f"{space}{value}", f"={node.start}", weight)
    quote = old[:1] if old[:1] in ("'", '"') and not value.isdigit() else ""
    return Edit(node.start, node.end, f"{quote}{value}{quote}", f"={node.start}", weight)


def add_key(file: File, holder: Node, key: str, value: str, weight: float = 0.0) -> Edit | None:
    """Return an edit that puts a key before the first one of a mapping; *value* is as it is
    written.  Where the key is there and null it gets the value."""
    there = next((old for name, old in holder.pairs if name.text == key), None)
    if there is not None:
        return replace_scalar(file, there, value, weight) if there.is_null else None
    if not holder.pairs or holder.pairs[0][0].start < 0:
        return None
    first = holder.pairs[0][0]
    if holder.flow:
        name = f'"{key}"' if file.is_json else key
        between = _gap(file, first)
        text = f"{name}: {value},{between or ' '}"
    else:
        space = "" if value.startswith("\n") else " "
        text = f"{key}:{space}{value}\n{' ' * first.column}"
    return Edit(first.start, first.start, text, f"+{first.start} {key}", weight)


def _gap(file: File, first: Node) -> str:
    """Return the line break and the indentation before a node, if nothing else stands before it."""
    start = file.text.rfind("\n", 0, first.start)
    before = file.text[start : first.start] if start >= 0 else ""
    return before if before and not before.strip() else ""


def remove_key(holder: Node, key: Node) -> Edit | None:
    """Return an edit that removes a key and its value, if others stay in the mapping."""
    keys = [name for name, _ in holder.pairs]
    at = next((n for n, name in enumerate(keys) if name is key), None)
    if at is None or len(keys) < 2:
        return None
    if at + 1 < len(keys):
        return Edit(key.start, keys[at + 1].start, "", f"-{key.start}")
    end = _end(holder.pairs[at][1])
    return Edit(_end(holder.pairs[at - 1][1]), end, "", f"-{key.start}")


def _end(node: Node) -> int:
    """Return where a node's own text ends; a block's end mark is where the next one begins."""
    while node.kind != "scalar" and not node.flow:
        inner = node.items[-1] if node.items else node.pairs[-1][1] if node.pairs else None
        if inner is None or inner.start < node.start:
            break
        node = inner
    return node.end


def set_variable(container: Container, name: str, value: str, weight: float = 0.0) -> Edit | None:
    """Return an edit that sets an environment variable of a container; None if it is said in the
    manifest by something else."""
    file, holder = container.file, container.env_node
    if name in container.env:
        node = container.env[name]
        return (
            replace_scalar(file, node, value, weight)
            if node is not None and _whole(file, node)
            else None
        )
    flow = file.is_json or container.node.flow
    item = _item(container, name, value, flow)
    if holder is None:
        key = "env" if container.platform in ("kubernetes", "nomad") else "environment"
        if container.grace.key[0].isupper():  # as CloudFormation and Nomad's API spell all keys
            key = key.capitalize()
        if flow:
            is_list = container.platform in ("kubernetes", "ecs")
            text = f"[{item}]" if is_list else f"{{{item}}}"
            return add_key(file, container.node, key, text, weight)
        pad = " " * (container.node.pairs[0][0].column if container.node.pairs else 0)
        lines = item.replace("\n", f"\n{pad}  ")
        return add_key(file, container.node, key, f"\n{pad}  {lines}", weight)
    if holder.kind == "list" and holder.items and holder.items[0].start >= 0:
        first = holder.items[0]
        if holder.flow:
            return Edit(first.start, first.start, f"{item}, ", f"+{first.start} {name}", weight)
        if first.kind == "scalar" or first.pairs:
            dash = file.text.rfind("-", 0, first.start)
            column = dash - file.text.rfind("\n", 0, dash) - 1
            pad = " " * column
            lines = item.replace("\n", f"\n{pad}")
            return Edit(dash, dash, f"{lines}\n{pad}", f"+{dash} {name}", weight)
    if holder.kind == "map" and holder.pairs:
        return add_key(file, holder, name, f'"{value}"', weight)
    return None


def _whole(file: File, node: Node) -> bool:
    return file.text[node.start : node.end].strip("'\"") == node.text


def _item(container: Container, name: str, value: str, flow: bool) -> str:
    """Return a variable as an item of the list, or of the mapping, in which the others stand."""
    holder = container.env_node
    if container.platform == "kubernetes":
        if flow or (holder is not None and holder.flow):
            return f'{{"name": "{name}", "value": "{value}"}}'
        return f'- name: {name}\n  value: "{value}"'
    if container.platform == "ecs":
        capital = container.grace.key[0] == "S"
        keys = ("Name", "Value") if capital else ("name", "value")
        if flow or (holder is not None and holder.flow):
            return f'{{"{keys[0]}": "{name}", "{keys[1]}": "{value}"}}'
        return f'- {keys[0]}: {name}\n  {keys[1]}: "{value}"'
    if holder is not None and holder.kind == "list":
        return f"- {name}={value}" if not holder.flow else f'"{name}={value}"'
    if container.file.is_json:
        return f'"{name}": "{value}"'
    return f'{name}: "{value}"'


def applied(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with the edits made, in its own line ends; of any that overlap, the first."""
    line_end = "\r\n" if "\r\n" in text else "\n"
    best: dict[str, Edit] = {}
    for edit in edits:
        if edit.subject not in best or best[edit.subject].weight < edit.weight:
            best[edit.subject] = edit
    taken: list[Edit] = []
    for edit in sorted(best.values(), key=lambda one: (one.start, one.end)):
        if not taken or edit.start >= taken[-1].end:
            taken.append(edit)
    for edit in reversed(taken):
        text = text[: edit.start] + edit.text.replace("\n", line_end) + text[edit.end :]
    return text
