"""Hides secrets in values that are shown to people."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def concealed(key: str, raw: object) -> object:
    """Return what was written for *key* without what may be secret in it: values of headers and
    variables, users in URLs."""
    if isinstance(raw, str):
        if key == "env":
            return " ".join(
                f"{word.partition('=')[0]}=..." if "=" in word else "..."
                for word in raw.split("\0")
            )
        if key.endswith("headers"):
            return "\n".join(
                line.partition(":")[0] + ": ..." for line in raw.split("\n") if line.strip()
            )
        import re

        return re.sub(r"(://)[^/\s]*@", r"\1...@", raw)
    if isinstance(raw, list):
        return [concealed(key, one) for one in raw]
    if isinstance(raw, dict):
        hidden = key == "env" or key.endswith("headers")
        return {
            name: _header_shown(one) if hidden else concealed(str(name), one)
            for name, one in raw.items()
        }
    return raw


def _header_shown(value: object) -> object:
    """Return a header's value as it may be shown: where it is found, but not what it is."""
    if not isinstance(value, dict):
        return "..."
    found: Mapping[object, object] = value
    return {name: one if name in ("env", "file") else "..." for name, one in found.items()}
