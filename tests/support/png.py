"""Reads the pixels of a PNG, as a browser's screenshot is: 8 bits a channel, not interlaced."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from pathlib import Path


def colours(file: Path) -> Counter[str]:
    """Return how many pixels have each colour: "#2da44e"."""
    data = file.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, width, channels = 8, b"", 0, 3
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, _, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunk)
            assert (depth, interlaced) == (8, 0) and colour in (2, 6)
            channels = 4 if colour == 6 else 3
        packed += chunk if kind == b"IDAT" else b""
        at += length + 12
    raw, stride = zlib.decompress(packed), width * channels
    found: Counter[str] = Counter()
    above = bytearray(stride)
    for start in range(0, len(raw), stride + 1):
        line = bytearray(raw[start + 1 : start + 1 + stride])
        _unfilter(raw[start], line, above, channels)
        found.update(line[n : n + 3].hex() for n in range(0, stride, channels))
        above = line
    return Counter({f"#{one}": count for one, count in found.items()})


def _unfilter(kind: int, line: bytearray, above: bytearray, step: int) -> None:
    """Undo the filter of a line in place (PNG specification, section 9)."""
    for n in range(len(line)) if kind else ():
        left = line[n - step] if n >= step else 0
        up, corner = above[n], above[n - step] if n >= step else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        else:
            guess = _paeth(left, up, corner)
        line[n] = (line[n] + guess) & 255


def _paeth(left: int, up: int, corner: int) -> int:
    """Return the one of three that is nearest to left + up - corner."""
    wanted = left + up - corner
    return min((left, up, corner), key=lambda one: abs(wanted - one))
