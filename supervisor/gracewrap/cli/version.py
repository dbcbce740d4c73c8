"""The version, with the commit that it was made from, the Python that runs it, and whether that is
started by the native launcher, or a part of it."""

from __future__ import annotations

import os
import sys

import gracewrap
from gracewrap.linux import launcher


def text() -> str:
    """Return what `gracewrap --version` prints."""
    python = ".".join(map(str, sys.version_info[:3]))
    made = commit()
    native = ", native launcher" if launcher.path() is not None else ""
    if launcher.is_single_file():
        native = ", single file"
    made = f"commit {made}, " if made else ""
    return f"gracewrap {gracewrap.__version__} ({made}Python {python}{native})"


def commit() -> str:
    """Return the commit, shortened; "" if it is not known.

    A wheel holds it in a file (hatch_build.py writes that), and so does the single file; in a
    source tree Git knows it.
    """
    if launcher.is_single_file():
        from gracewrap_files import FILES

        return FILES["commit.txt"].decode().strip()[:12]
    package = os.path.dirname(os.path.abspath(gracewrap.__file__))
    shipped = _read(f"{package}/commit.txt")
    return (shipped or commit_of(f"{package}/../../.git"))[:12]


def commit_of(git: str) -> str:
    """Return the commit that is checked out, without git: as its files say; "" if they do not."""
    head = _read(f"{git}/HEAD")
    if not head.startswith("ref: "):
        return head
    name = head.removeprefix("ref: ")
    if found := _read(f"{git}/{name}"):
        return found
    packed = _read(f"{git}/packed-refs").splitlines()
    return next((line.partition(" ")[0] for line in packed if line.endswith(f" {name}")), "")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""
