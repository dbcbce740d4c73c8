"""Reads the JSON of a report, from a file or from standard input."""

from __future__ import annotations

import json
import sys

from gracewrap.cli.control_client import Unusable
from gracewrap.cli.wait import complain
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_WANTED = "name the file that a run has written with --report-file FILE"
LARGEST = 64 << 20  # bytes of a report


def document(name: str, to: str) -> Mapping[str, object]:
    """Return the JSON in a file; "-": from standard input.

    Args:
        name: The file.
        to: What it is read for, as a verb.

    Raises:
        Unusable: If it cannot be read, or is no JSON object.
    """
    called = name if name != "-" else "standard input"
    try:
        content = _content(name)
        if not content.strip():
            raise Unusable(f"cannot read {called}: it is empty; {_WANTED}")
        found = json.loads(content)
    except OSError as error:
        raise Unusable(f"cannot read {called}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        what = "it is a log, not a report" if _is_log(content) else f"it is not JSON ({error})"
        raise Unusable(f"cannot read {called}: {what}; {_WANTED}") from None
    if isinstance(found, dict) and _is_log(content):
        raise Unusable(f"cannot {to} {called}: it is a log, not a report; {_WANTED}")
    if not isinstance(found, dict):
        raise Unusable(f"cannot {to} {called}: it is not a report of gracewrap")
    return found


def _is_log(content: bytes) -> bool:
    """Return whether this is gracewrap's own log, as JSON or as text."""
    first = content.lstrip().partition(b"\n")[0]
    return first.startswith(b"gracewrap: ") or (
        first.startswith(b"{") and b'"source": "gracewrap"' in first
    )


def _content(name: str) -> bytes:
    if name == "-":
        if sys.stdin.isatty():
            complain("reads a report from standard input, which is the terminal; Ctrl-D ends it")
        return sys.stdin.buffer.read(LARGEST)
    with open(name, "rb") as file:
        return file.read(LARGEST)
