"""Durations as manifests write them."""

from __future__ import annotations

from gracewrap.manifests.model import unset


def seconds(text: str | None) -> float | None:
    """Return a duration such as 1m30s in seconds, or None; a number alone is seconds."""
    import re

    text = unset((text or "").strip())
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(map("".join, parts)) != text:
        return None
    unit = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * unit[word] for number, word in parts)
